"""The filter of system calls that a program in the sandbox runs under: seccomp, classic BPF.

The namespaces that bubblewrap makes and the capabilities that it drops confine; the filter is a second wall, and the
only one before what the program shares with the host: its keys, /dev/null, memory that no limit counts.
"""

import functools
import platform
import struct

#: Refused with "not permitted", by number on (x86_64, aarch64); None where there is no such call.
REFUSED = {
    # Processes: RLIMIT_NPROC does not bind the superuser, who runs many containers. Threads are allowed.
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    # Namespaces of its own, in which a program has every capability.
    "unshare": (272, 97),
    "setns": (308, 268),
    # Mounts: a read-only one must stay so.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    # Owners and modes: /dev/null is the host's, and the superuser's.
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    # Keys are the user's, here and on the host; System V memory is not counted by RLIMIT_AS.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    # Sockets of families that no network namespace holds (to the host of a virtual machine), and the machine's name.
    "socket": (41, 198),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "io_uring_setup": (425, 425),  # its requests pass by any filter
}
#: By architecture: place in the table above, number for audits, clone.
_ARCHITECTURES = {"x86_64": (0, 0xC000003E, 56), "aarch64": (1, 0xC00000B7, 220)}


@functools.cache
def program() -> bytes:
    """The filter for this machine, as ``bwrap --seccomp`` reads it; b"" on other architectures."""
    if platform.machine() not in _ARCHITECTURES:
        return b""
    place, architecture, clone = _ARCHITECTURES[platform.machine()]
    load, equal, at_least, any_bit, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, error, clone3, thread = 0x7FFF0000, 0x80000000, 0x00050000, 435, 0x00010000
    steps = [
        (load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill),  # offset 4: architecture
        (load, 0, 0, 0), (at_least, 0, 1, 0x40000000), (answer, 0, 0, kill),  # offset 0: number; the x32 range
        (equal, 0, 1, clone3), (answer, 0, 0, error | 38),  # "not implemented": libc falls back to clone
    ]  # fmt: skip
    for numbers in REFUSED.values():
        if numbers[place] is not None:
            steps += [(equal, 0, 1, numbers[place]), (answer, 0, 0, error | 1)]  # "not permitted"
    steps += [
        (equal, 0, 3, clone), (load, 0, 0, 16), (any_bit, 1, 0, thread), (answer, 0, 0, error | 1),  # offset 16: flags
        (answer, 0, 0, allow),
    ]  # fmt: skip
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
