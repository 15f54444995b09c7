//! `TCP_NODELAY` on the connections to PostgreSQL. sqlx 0.9.0 does not set it any more and gives no way to reach its sockets
//! (<https://github.com/transact-rs/sqlx/issues/4335>, mended after 0.9.0): without it the few bytes that end a COPY wait for the
//! server's delayed acknowledgement, 40 ms for what takes 2. To be removed with the next release of sqlx.

/// Sets it on all TCP sockets of this process that lead to this port; gives their number. Nothing happens where there is no
/// `/proc`, and to Unix sockets, which do not need it.
#[expect(unsafe_code, reason = "the only way to a socket that its owner keeps to itself")]
pub(super) fn set(port: u16) -> usize {
    use std::os::fd::{BorrowedFd, RawFd};
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return 0 };
    let numbers: Vec<RawFd> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let is_set = |number: &RawFd| {
        // SAFETY: the descriptor is neither kept nor closed. Should its owner close it meanwhile, the calls fail, or meet a
        // socket made since, which this option does not harm.
        let descriptor = unsafe { BorrowedFd::borrow_raw(*number) };
        let socket = socket2::SockRef::from(&descriptor);
        let leads_there = socket.peer_addr().is_ok_and(|peer| peer.as_socket().is_some_and(|peer| peer.port() == port));
        leads_there && socket.set_tcp_nodelay(true).is_ok()
    };
    numbers.iter().filter(|number| is_set(number)).count()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    #[test]
    #[cfg(target_os = "linux")]
    fn sockets_that_lead_there_have_it_and_others_do_not() {
        let (there, elsewhere) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let connect = |to: &TcpListener| TcpStream::connect(to.local_addr().unwrap()).unwrap();
        let (ours, other) = (connect(&there), connect(&elsewhere));
        assert_eq!(super::set(there.local_addr().unwrap().port()), 1);
        assert!(ours.nodelay().unwrap() && !other.nodelay().unwrap());
    }
}
