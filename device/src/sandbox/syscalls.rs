// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The system calls that the process can make: seccomp. Any other one ends it.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::process;

use libc::{
    CLONE_THREAD, ENOSYS, O_CREAT, PROT_EXEC, SYS_accept4, SYS_bind, SYS_brk, SYS_clock_gettime,
    SYS_clock_nanosleep, SYS_clone, SYS_clone3, SYS_close, SYS_connect, SYS_dup, SYS_epoll_create1,
    SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_eventfd2, SYS_exit, SYS_exit_group,
    SYS_fcntl, SYS_fstat, SYS_futex, SYS_getcwd, SYS_getpeername, SYS_getpid, SYS_getrandom,
    SYS_getsockname, SYS_getsockopt, SYS_gettid, SYS_ioctl, SYS_listen, SYS_lseek, SYS_madvise,
    SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap, SYS_newfstatat, SYS_openat, SYS_ppoll,
    SYS_prctl, SYS_read, SYS_readlinkat, SYS_readv, SYS_recvfrom, SYS_recvmsg, SYS_restart_syscall,
    SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sched_getaffinity,
    SYS_sched_yield, SYS_sendmsg, SYS_sendto, SYS_set_robust_list, SYS_setsockopt, SYS_shutdown,
    SYS_sigaltstack, SYS_socket, SYS_statx, SYS_tgkill, SYS_timerfd_create, SYS_timerfd_gettime,
    SYS_timerfd_settime, SYS_unlinkat, SYS_write, SYS_writev,
};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

/// Whatever their arguments.
const ALLOWED: &[i64] = &[
    // Frames, rings, messages, the log.
    SYS_read,
    SYS_readv,
    SYS_write,
    SYS_writev,
    SYS_recvfrom,
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_sendto,
    // Waiting.
    SYS_epoll_create1,
    SYS_epoll_ctl,
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    SYS_eventfd2,
    SYS_ppoll,
    SYS_timerfd_create,
    SYS_timerfd_gettime,
    SYS_timerfd_settime,
    SYS_clock_gettime,
    SYS_clock_nanosleep,
    SYS_restart_syscall,
    SYS_sched_yield,
    // Front ends, clients of the control socket, the other end of a link. What sockets there are is
    // limited below.
    SYS_accept4,
    SYS_bind,
    SYS_connect,
    SYS_getpeername,
    SYS_getsockname,
    SYS_getsockopt,
    SYS_listen,
    SYS_setsockopt,
    SYS_shutdown,
    // Descriptors and files. Which ones can be opened and removed is landlock's.
    SYS_close,
    SYS_dup,
    SYS_fcntl,
    SYS_fstat,
    SYS_lseek,
    SYS_newfstatat,
    SYS_statx,
    SYS_unlinkat,
    // Memory, the guest's included.
    SYS_brk,
    SYS_madvise,
    SYS_mremap,
    SYS_munmap,
    SYS_getrandom,
    // What a panic looks at for its message.
    SYS_getcwd,
    SYS_readlinkat,
    // Threads and their end.
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_getpid,
    SYS_gettid,
    SYS_prctl,
    SYS_rseq,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sched_getaffinity,
    SYS_set_robust_list,
    SYS_sigaltstack,
];

/// The older of two calls for the same, which newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_OLD: &[i64] = &[
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_OLD: &[i64] = &[];

/// What is asked of a device or socket: TAP interfaces, non-blocking sockets, the number of an
/// interface, and whether standard error is a terminal.
const IOCTLS: &[u64] = &[
    libc::TUNSETIFF,
    libc::TUNGETIFF,
    libc::TUNSETVNETHDRSZ,
    libc::TUNSETVNETLE,
    libc::TUNSETQUEUE,
    libc::TUNSETOFFLOAD,
    libc::FIONBIO,
    libc::SIOCGIFINDEX,
    libc::TCGETS,
];

/// Limits this thread, and those that it starts.
pub(super) fn confine() -> Result<(), Error> {
    // The C library asks for threads by clone3, whose flags are out of a filter's reach, and then,
    // when there is no such call, by clone. Of two filters the one that allows less counts.
    let no_clone3 = BTreeMap::from([(SYS_clone3, vec![])]);
    let no_clone3 =
        program(no_clone3, SeccompAction::Allow, SeccompAction::Errno(ENOSYS.cast_unsigned()))?;
    let allowed = program(allowed()?, SeccompAction::KillProcess, SeccompAction::Allow)?;
    apply_filter(&no_clone3)?;
    apply_filter(&allowed)
}

fn program(
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, Error> {
    let filter = SeccompFilter::new(rules, otherwise, matched, ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

fn allowed() -> Result<BTreeMap<i64, Vec<SeccompRule>>, Error> {
    let without = |argument, bit: i32| masked(argument, bit, 0);
    let mut rules: BTreeMap<_, _> =
        ALLOWED.iter().chain(ALLOWED_OLD).map(|&call| (call, vec![])).collect();
    rules.insert(SYS_clone3, vec![]);
    // A thread, no process.
    rules.insert(SYS_clone, vec![masked(0, CLONE_THREAD, CLONE_THREAD)?]);
    // Nothing that was written becomes code.
    rules.insert(SYS_mmap, vec![without(2, PROT_EXEC)?]);
    rules.insert(SYS_mprotect, vec![without(2, PROT_EXEC)?]);
    // No file is made.
    rules.insert(SYS_openat, vec![without(2, O_CREAT)?]);
    let sockets =
        [libc::AF_UNIX, libc::AF_NETLINK].map(|family| equal(0, u64::from(family.cast_unsigned())));
    rules.insert(SYS_socket, sockets.into_iter().collect::<Result<_, _>>()?);
    let asked = IOCTLS.iter().map(|&request| equal(1, request));
    rules.insert(SYS_ioctl, asked.collect::<Result<_, _>>()?);
    // How a panic ends: SIGABRT to itself.
    rules.insert(SYS_tgkill, vec![equal(0, process::id().into())?]);
    Ok(rules)
}

/// The argument of this number has exactly these of the bits in the mask.
fn masked(argument: u8, mask: i32, bits: i32) -> Result<SeccompRule, Error> {
    let [mask, bits] = [mask, bits].map(|it| u64::from(it.cast_unsigned()));
    rule(argument, SeccompCmpOp::MaskedEq(mask), bits)
}

fn equal(argument: u8, value: u64) -> Result<SeccompRule, Error> {
    rule(argument, SeccompCmpOp::Eq, value)
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}
