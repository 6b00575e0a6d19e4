//! Addresses on loopback where something is wrong with the listener.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tokio::net::TcpSocket;

/// An address that refuses connections for as long as this is kept: the port is taken, and nobody listens.
#[derive(Debug)]
pub struct RefusedPort {
    _socket: TcpSocket,
    addr: SocketAddr,
}

impl RefusedPort {
    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Takes a port on which connections are refused.
pub fn refused() -> RefusedPort {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind((Ipv4Addr::LOCALHOST, 0).into())
        .expect("a free port on loopback");
    let addr = socket.local_addr().expect("a bound socket has an address");
    RefusedPort {
        _socket: socket,
        addr,
    }
}

/// An address where connections are accepted (by the kernel), and nothing is ever read or said.
#[derive(Debug)]
pub struct SilentListener {
    listener: TcpListener,
}

impl SilentListener {
    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.listener
            .local_addr()
            .expect("a bound listener has an address")
    }
}

/// Listens and says nothing.
pub fn silent() -> SilentListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
    SilentListener { listener }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::TcpStream;
    use std::time::Duration;

    #[test]
    fn a_refused_port_refuses() {
        let refused = super::refused();
        let error = TcpStream::connect(refused.addr()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_silent_listener_accepts_and_says_nothing() {
        let silent = super::silent();
        let mut stream = TcpStream::connect(silent.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}
