// PID 1 of a pod: does nothing, for ever. Its children are reaped by the kernel, as it ignores SIGCHLD (set by
// the caller, kept over execve). It cannot be dumped, so that nothing in the pod can look into it.
        .globl _start
_start: mov     $4, %edi                // PR_SET_DUMPABLE
        xor     %esi, %esi
        mov     $157, %eax              // prctl
        syscall
again:  mov     $34, %eax               // pause
        syscall
        jmp     again
