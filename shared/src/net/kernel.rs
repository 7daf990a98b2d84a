//! What the kernel knows of a TCP connection, and of its own clock. Floor 1. The only unsafe code of
//! this crate: three calls that write into memory of ours, each with its size.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// From TCP_INFO (tcp(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFacts {
    /// The smoothed round-trip time.
    pub round_trip: Duration,
    /// Segments that were sent again, over the connection's life.
    pub retransmits: u32,
}

/// What the kernel knows of `socket`.
///
/// # Errors
/// If it is no TCP socket.
pub fn tcp_facts(socket: &impl AsFd) -> io::Result<TcpFacts> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes at most `length` bytes into
    // `info`, which has that size, and all of it was zeroed: any bytes are a valid `tcp_info`.
    let info = unsafe {
        let to = info.as_mut_ptr().cast();
        if libc::getsockopt(socket.as_fd().as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, to, &raw mut length) != 0 {
            return Err(io::Error::last_os_error());
        }
        info.assume_init()
    };
    Ok(TcpFacts { round_trip: Duration::from_micros(u64::from(info.tcpi_rtt)), retransmits: info.tcpi_total_retrans })
}

/// How many bytes the peer of `socket` has not acknowledged yet (SIOCOUTQ, tcp(7)).
///
/// # Errors
/// If it is no connected socket.
pub fn unacknowledged_bytes(socket: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed; the kernel writes one int into `bytes`.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Whether the kernel's clock is kept in step by somebody (adjtimex(2)); how far it may be off.
///
/// # Errors
/// If the kernel does not tell.
pub fn clock_in_step() -> io::Result<Option<Duration>> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `modes` is zero, so nothing is set; the kernel writes one `timex` into `state`, all of
    // which was zeroed: any bytes are a valid `timex`.
    let (answer, state) = unsafe {
        let answer = libc::adjtimex(state.as_mut_ptr());
        (answer, state.assume_init())
    };
    match answer {
        -1 => Err(io::Error::last_os_error()),
        libc::TIME_ERROR => Ok(None),
        _ => Ok(Some(Duration::from_micros(u64::try_from(state.esterror).unwrap_or(0)))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_tells_what_is_under_way() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (mut server, _) = listener.accept().expect("a client");
        client.write_all(b"x").expect("sent");
        server.read_exact(&mut [0]).expect("received");
        assert_eq!(unacknowledged_bytes(&client).expect("a socket"), 0);
        assert!(tcp_facts(&client).expect("a socket").round_trip > Duration::ZERO);
        // More than the receiver's window takes stays with the sender.
        client.set_nonblocking(true).expect("set");
        while client.write(&[0; 4096]).is_ok() {}
        assert!(unacknowledged_bytes(&client).expect("a socket") > 0);
        let file = std::fs::File::open("/dev/null").expect("opens");
        assert!(tcp_facts(&file).is_err() && unacknowledged_bytes(&file).is_err());
    }
}
