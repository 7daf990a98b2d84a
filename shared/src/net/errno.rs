//! What an error of the operating system means for a dial: which party must act.
//! Pure. Floor 1.

use std::io;

use crate::fault::Reason;

/// Why a socket could not be made or bound to its source.
pub fn bind_reason(error: &io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => Reason::SourceNotPlumbed,
        Some(libc::EADDRINUSE) => Reason::SourcePortsExhausted,
        Some(libc::EACCES | libc::EPERM) => Reason::LocalFirewall,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Reason::ProxyOverloaded,
        _ => Reason::Internal,
    }
}

/// Why a bound socket could not be connected.
pub fn connect_reason(error: &io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) => Reason::SourcePortsExhausted,
        Some(libc::EAFNOSUPPORT) => Reason::FamilyMismatch,
        Some(libc::ECONNREFUSED) => Reason::ConnectionRefused,
        // A refusal has its own errno: this one was connected, and reset before that was noticed.
        Some(libc::ECONNRESET) => Reason::RemoteResetPreBanner,
        Some(libc::ETIMEDOUT) => Reason::ConnectionTimeout,
        Some(libc::ENETUNREACH | libc::ENETDOWN | libc::EINVAL) => Reason::DestinationUnroutable,
        Some(libc::EACCES | libc::EPERM) => Reason::LocalFirewall,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Reason::ProxyOverloaded,
        _ => Reason::HostUnreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_name_the_party() {
        for (errno, bound, connected) in [
            (libc::EADDRNOTAVAIL, Reason::SourceNotPlumbed, Reason::SourcePortsExhausted),
            (libc::EMFILE, Reason::ProxyOverloaded, Reason::ProxyOverloaded),
            (libc::EACCES, Reason::LocalFirewall, Reason::LocalFirewall),
            (libc::ENETUNREACH, Reason::Internal, Reason::DestinationUnroutable),
            (libc::ECONNREFUSED, Reason::Internal, Reason::ConnectionRefused),
            (libc::ECONNRESET, Reason::Internal, Reason::RemoteResetPreBanner),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!((bind_reason(&error), connect_reason(&error)), (bound, connected), "{error}");
        }
    }
}
