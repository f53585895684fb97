"""The seccomp filter (classic BPF) of the system calls that sandboxed programs may use.

Bubblewrap's namespaces and dropped capabilities are the first wall, and this filter is the second.
It is the only protection of what a program shares with the host: kernel keys, /dev/null, memory
that no limit counts, the host of a virtual machine. The filter is a list of allowed calls, those
that a computation needs; all others, including those of later kernels, are refused.
"""

import functools
import platform
import struct

#: Allowed calls with their numbers on (x86_64, aarch64); None where there is no such call.
ALLOWED = {
    # Files: reading what is mounted, and writing in the private folder; but no owners, modes,
    # times, locks or links
    "read": (0, 63), "write": (1, 64), "open": (2, None), "openat": (257, 56), "close": (3, 57),
    "lseek": (8, 62), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65),
    "writev": (20, 66), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "newfstatat": (262, 79), "statx": (332, 291), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78),
    "statfs": (137, 43), "fstatfs": (138, 44), "fsync": (74, 82), "fdatasync": (75, 83),
    "truncate": (76, 45), "ftruncate": (77, 46), "getdents": (78, None), "getdents64": (217, 61),
    "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50), "umask": (95, 166),
    "fadvise64": (221, 223), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276),
    "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None),
    "unlinkat": (263, 35), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24),
    "sendfile": (40, 71), "copy_file_range": (326, 285), "pipe": (22, None), "pipe2": (293, 59),
    "close_range": (436, 436),
    # Memory, which RLIMIT_AS limits
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214),
    "mremap": (25, 216), "madvise": (28, 233),
    # This process and its threads. Bubblewrap itself starts the interpreter under the filter, and
    # waits for its end.
    "execve": (59, 221), "wait4": (61, 260), "exit": (60, 93), "exit_group": (231, 94),
    "futex": (202, 98), "futex_waitv": (449, 449), "set_robust_list": (273, 99),
    "set_tid_address": (218, 96), "rseq": (334, 293), "membarrier": (324, 283),
    "arch_prctl": (158, None), "sched_yield": (24, 124), "getcpu": (309, 168),
    "sched_getaffinity": (204, 123), "sched_setaffinity": (203, 122),
    "sched_getparam": (143, 121), "sched_getscheduler": (145, 120), "getpriority": (140, 141),
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getpgrp": (111, None),
    "getpgid": (121, 155), "getsid": (124, 156), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getgroups": (115, 158), "getresuid": (118, 148),
    "getresgid": (120, 150), "getrusage": (98, 165), "times": (100, 153), "uname": (63, 160),
    "sysinfo": (99, 179), "getrandom": (318, 278), "getrlimit": (97, 163),
    "setrlimit": (160, 164), "prlimit64": (302, 261),
    # Signals and time
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132), "pause": (34, None), "kill": (62, 129), "tkill": (200, 130),
    "tgkill": (234, 131), "alarm": (37, None), "getitimer": (36, 102), "setitimer": (38, 103),
    "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None),
    # Multiplexing as in asyncio, with the pair of sockets that it creates for itself
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "epoll_create": (213, None), "epoll_create1": (291, 20), "epoll_ctl": (233, 21),
    "epoll_wait": (232, None), "epoll_pwait": (281, 22), "eventfd2": (290, 19),
    "sendto": (44, 206), "recvfrom": (45, 207), "shutdown": (48, 210), "getsockname": (51, 204),
    "getpeername": (52, 205), "getsockopt": (55, 209), "setsockopt": (54, 208),
}  # fmt: skip
#: Calls allowed for certain values of one argument: numbers, offset of the argument, these values
CONDITIONAL = {
    # Copying a descriptor, and its flags for close-on-exec and non-blocking; no locks or leases,
    # which could block writers of the host
    "fcntl": ((72, 25), 24, (0, 1, 2, 3, 4, 1030)),
    # Terminal queries, and the flags for non-blocking and close-on-exec
    "ioctl": ((16, 29), 24, (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)),
    "prctl": ((157, 167), 16, (15, 16)),  # the name of a thread
    "socketpair": ((53, 199), 16, (1,)),  # AF_UNIX: other families may reach past the namespaces
}
#: For each architecture: index in the tables above, audit number, number of clone
_ARCHITECTURES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}


@functools.cache
def program() -> bytes:
    """Return the filter as ``bwrap --seccomp`` reads it; b"" on an unsupported architecture."""
    if platform.machine() not in _ARCHITECTURES:
        return b""
    index, architecture, clone = _ARCHITECTURES[platform.machine()]
    load, equal, at_least, any_bit, verdict = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, error, clone3, thread = 0x7FFF0000, 0x80000000, 0x00050000, 435, 0x00010000
    # An instruction is (operation, jump if true, jump if false, operand). Those that load read
    # from the offset of a field of ``struct seccomp_data``.
    instructions = [
        # Offset 4 is the architecture.
        (load, 0, 0, 4), (equal, 1, 0, architecture), (verdict, 0, 0, kill),
        # Offset 0 is the number of the call; numbers in the x32 range are refused.
        (load, 0, 0, 0), (at_least, 0, 1, 0x40000000), (verdict, 0, 0, kill),
        # ENOSYS ("not implemented") makes libc fall back to clone.
        (equal, 0, 1, clone3), (verdict, 0, 0, error | 38),
    ]  # fmt: skip
    for numbers in ALLOWED.values():
        if (number := numbers[index]) is not None:
            instructions += [(equal, 0, 1, number), (verdict, 0, 0, allow)]
    for numbers, offset, values in CONDITIONAL.values():
        instructions += [(equal, 0, 2 * len(values) + 2, numbers[index]), (load, 0, 0, offset)]
        for value in values:
            instructions += [(equal, 0, 1, value), (verdict, 0, 0, allow)]
        instructions += [(verdict, 0, 0, error | 1)]
    instructions += [
        # Clone may only create threads, no processes: RLIMIT_NPROC does not bind the superuser, who
        # runs many containers. Offset 16 holds the flags.
        (equal, 0, 3, clone), (load, 0, 0, 16), (any_bit, 0, 1, thread), (verdict, 0, 0, allow),
        (verdict, 0, 0, error | 1),  # EPERM ("not permitted")
    ]  # fmt: skip
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
