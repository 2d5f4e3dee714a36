// Waits for one child, hands signals on to it, and writes down how it ended. Keeps its descriptors open:
// one of them carries the pod's lock.
//   argv[1] the child's process ID, argv[2] where the status is written, argv[3] what that file is renamed to;
//   descriptor 3 is open for writing to argv[2]. All signals are blocked by the caller.
// Ends as a shell would for the child: with its code, or 128 and the number of the signal.
        .globl _start
_start: mov     16(%rsp), %rsi
        xor     %ebx, %ebx              // the child
        xor     %eax, %eax
digit:  lodsb
        sub     $'0', %eax
        js      read
        imul    $10, %ebx
        add     %eax, %ebx
        xor     %eax, %eax
        jmp     digit
read:   mov     %rsp, %rbp
        sub     $256, %rsp              // 0: siginfo, 128: set of signals, 136: status, 144: text
        movq    $-1, 128(%rsp)
next:   mov     %ebx, %edi              // has it ended? Asked first: the signal may have come before the mask
        lea     136(%rsp), %rsi
        mov     $1, %edx                // WNOHANG
        xor     %r10d, %r10d
        mov     $61, %eax               // wait4
        syscall
        test    %eax, %eax
        jnz     ended
        lea     128(%rsp), %rdi
        mov     %rsp, %rsi
        xor     %edx, %edx
        mov     $8, %r10d
        mov     $128, %eax              // rt_sigtimedwait
        syscall
        cmp     $17, %eax               // SIGCHLD
        je      next
        test    %eax, %eax
        jle     next
        cmpl    $0, 8(%rsp)             // si_code: from the terminal it has reached the child too
        jg      next
        mov     %eax, %esi
        mov     %ebx, %edi
        mov     $62, %eax               // kill
        syscall
        jmp     next
ended:  mov     $254, %r12d             // somebody else waited for it: nothing is known
        js      write
        mov     136(%rsp), %eax
        mov     %eax, %r12d
        and     $0x7f, %r12d
        jz      code
        add     $128, %r12d
        jmp     write
code:   shr     $8, %eax
        movzbl  %al, %r12d
write:  lea     160(%rsp), %rsi         // decimal, from the end
        movb    $10, (%rsi)
        mov     %r12d, %eax
        mov     $10, %ecx
place:  xor     %edx, %edx
        div     %ecx
        add     $'0', %edx
        dec     %rsi
        mov     %dl, (%rsi)
        test    %eax, %eax
        jnz     place
        lea     161(%rsp), %rdx
        sub     %rsi, %rdx
        mov     $3, %edi
        mov     $1, %eax                // write
        syscall
        mov     24(%rbp), %rdi
        mov     32(%rbp), %rsi
        mov     $82, %eax               // rename
        syscall
        mov     %r12d, %edi
        mov     $231, %eax              // exit_group
        syscall
