// Executes the program that its arguments name, and says so when the kernel will not.
//   argv[0] what to say then, argv[1] the path, argv[2]... the program's own arguments
// Ends with 127 when there is no such file, with 126 otherwise.
        .globl _start
_start: mov     16(%rsp), %rdi          // path
        lea     24(%rsp), %rsi          // its arguments
        mov     (%rsp), %rax            // argc
        lea     16(%rsp,%rax,8), %rdx   // the environment, behind the arguments' end
        mov     $59, %eax               // execve
        syscall
        mov     %rax, %rbx              // it came back: an errno, negated
        mov     8(%rsp), %rsi
        xor     %edx, %edx
length: cmpb    $0, (%rsi,%rdx)
        je      say
        inc     %rdx
        jmp     length
say:    mov     $2, %edi
        mov     $1, %eax                // write
        syscall
        mov     $126, %edi
        cmp     $-2, %rbx               // ENOENT
        jne     end
        inc     %edi
end:    mov     $231, %eax              // exit_group
        syscall
