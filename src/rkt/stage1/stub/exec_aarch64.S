// Executes the program that its arguments name, and says so when the kernel will not.
//   argv[0] what to say then, argv[1] the path, argv[2]... the program's own arguments
// Ends with 127 when there is no such file, with 126 otherwise.
        .globl _start
_start: ldr     x0, [sp, #16]           // path
        add     x1, sp, #24             // its arguments
        ldr     x2, [sp]                // argc
        add     x2, sp, x2, lsl #3
        add     x2, x2, #16             // the environment, behind the arguments' end
        mov     x8, #221                // execve
        svc     #0
        mov     x9, x0                  // it came back: an errno, negated
        ldr     x1, [sp, #8]
        mov     x2, #0
length: ldrb    w3, [x1, x2]
        cbz     w3, say
        add     x2, x2, #1
        b       length
say:    mov     x0, #2
        mov     x8, #64                 // write
        svc     #0
        mov     x0, #126
        cmn     x9, #2                  // ENOENT
        cinc    x0, x0, eq
        mov     x8, #94                 // exit_group
        svc     #0
