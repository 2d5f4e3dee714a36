// Waits for one child, hands signals on to it, and writes down how it ended. Keeps its descriptors open:
// one of them carries the pod's lock.
//   argv[1] the child's process ID, argv[2] where the status is written, argv[3] what that file is renamed to;
//   descriptor 3 is open for writing to argv[2]. All signals are blocked by the caller.
// Ends as a shell would for the child: with its code, or 128 and the number of the signal.
        .globl _start
_start: ldr     x1, [sp, #16]
        mov     w19, #0                 // the child
        mov     w2, #10
digit:  ldrb    w0, [x1], #1
        subs    w0, w0, #'0'
        b.mi    read
        madd    w19, w19, w2, w0
        b       digit
read:   mov     x20, sp
        sub     sp, sp, #256            // 0: siginfo, 128: set of signals, 136: status, 144: text
        mov     x0, #-1
        str     x0, [sp, #128]
next:   mov     w0, w19                 // has it ended? Asked first: the signal may have come before the mask
        add     x1, sp, #136
        mov     x2, #1                  // WNOHANG
        mov     x3, #0
        mov     x8, #260                // wait4
        svc     #0
        cmp     w0, #0
        b.ne    ended
        add     x0, sp, #128
        mov     x1, sp
        mov     x2, #0
        mov     x3, #8
        mov     x8, #137                // rt_sigtimedwait
        svc     #0
        cmp     w0, #17                 // SIGCHLD
        b.eq    next
        cmp     w0, #0
        b.le    next
        ldr     w2, [sp, #8]
        cmp     w2, #0                  // si_code: from the terminal it has reached the child too
        b.gt    next
        mov     w1, w0
        mov     w0, w19
        mov     x8, #129                // kill
        svc     #0
        b       next
ended:  mov     w21, #254               // somebody else waited for it: nothing is known
        b.mi    write
        ldr     w0, [sp, #136]
        and     w21, w0, #0x7f
        cbz     w21, code
        add     w21, w21, #128
        b       write
code:   ubfx    w21, w0, #8, #8
write:  add     x1, sp, #160            // decimal, from the end
        mov     w0, #10
        strb    w0, [x1]
        mov     w2, w21
place:  udiv    w3, w2, w0
        msub    w4, w3, w0, w2
        add     w4, w4, #'0'
        strb    w4, [x1, #-1]!
        mov     w2, w3
        cbnz    w2, place
        add     x2, sp, #161
        sub     x2, x2, x1
        mov     x0, #3
        mov     x8, #64                 // write
        svc     #0
        mov     x0, #-100               // AT_FDCWD
        mov     x2, #-100
        ldr     x1, [x20, #24]
        ldr     x3, [x20, #32]
        mov     x4, #0
        mov     x8, #276                // renameat2
        svc     #0
        mov     w0, w21
        mov     x8, #94                 // exit_group
        svc     #0
