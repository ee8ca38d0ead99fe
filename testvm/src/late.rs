// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Slowness alone is no failure, but no verdict. Each error type says by `is_late` whether slowness
//! alone may have brought it about; here is what the errors of the operating system say.

use std::io;

/// A time limit has passed: a socket's own, or one of the kernel.
pub(crate) fn ran_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_limit_that_has_passed_is_told_from_a_refusal() -> io::Result<()> {
        let silent = UdpSocket::bind("127.0.0.1:0")?;
        silent.set_read_timeout(Some(Duration::from_millis(1)))?;
        assert!(ran_out(&silent.recv(&mut [0]).expect_err("nobody sends")));
        assert!(ran_out(&nix::errno::Errno::ETIMEDOUT.into()));
        let taken = TcpListener::bind("127.0.0.1:0")?;
        assert!(!ran_out(&TcpListener::bind(taken.local_addr()?).expect_err("it is taken")));
        Ok(())
    }
}
