//! The PROXY protocol, versions 1 and 2, as HAProxy's `proxy-protocol.txt` has them: a header in front of all else, in
//! which a proxy tells whose connection it passes on. Sans-io: bytes come in, and how many more belong to the header
//! goes out, so that none behind it is taken.
//!
//! ```text
//! v1  "PROXY " ("TCP4" | "TCP6") " " SOURCE " " DESTINATION " " PORT " " PORT CR LF     at most 107 bytes
//!     "PROXY UNKNOWN" ... CR LF
//! v2  0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A | version and command | family and protocol | length, 2 bytes | ...
//!     length covers the addresses (12, 36 or 216 bytes) and the fields (TLV) behind them
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the header said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least so many more bytes belong to it.
    Need(usize),
    /// It is complete.
    Done(Told),
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The proxy's own, such as a health check; or the proxy cannot tell.
    Own,
    /// That of the client with this address.
    Client(SocketAddr),
}

/// What came is no header, or a wrong one: close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Neither of the two signatures.
    #[error("no header of the PROXY protocol")]
    NoHeader,
    /// A line that is too long.
    #[error("line of more than {V1_MAX} bytes")]
    TooLong,
    /// A line that cannot be read.
    #[error("line that is not \"PROXY TCP4|TCP6|UNKNOWN source destination port port\"")]
    Line,
    /// A version that is not 2.
    #[error("version {0}, not 2")]
    Version(u8),
    /// A command that is neither LOCAL nor PROXY.
    #[error("unknown command {0}")]
    Command(u8),
    /// Fewer bytes than the addresses take.
    #[error("{0} bytes, too short for its addresses")]
    Short(usize),
    /// More bytes than any proxy has to say.
    #[error("{0} bytes, more than {V2_MAX}")]
    Long(usize),
}

/// The longest line of version 1, its end included.
const V1_MAX: usize = 107;

/// The most that is read of version 2 behind its first 16 bytes: 216 of addresses, and room for fields such as a name, a
/// unique id and what TLS was.
pub const V2_MAX: usize = 4096;

/// No header is shorter.
const SHORTEST: usize = "PROXY UNKNOWN\r\n".len();

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD: usize = 16;

/// Reads the header that `bytes` begin with. They never hold more than was asked for.
///
/// # Errors
/// Once they cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let at = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, wanted)| byte == wanted);
    let (one, two) = (at(b"PROXY "), at(V2_SIGNATURE));
    match (one || two, SHORTEST.checked_sub(bytes.len())) {
        (false, _) => Err(ProxyError::NoHeader),
        (true, Some(missing @ 1..)) => Ok(Progress::Need(missing)),
        (true, Some(0) | None) => {
            if two {
                v2(bytes)
            } else {
                v1(bytes)
            }
        }
    }
}

fn v1(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some(line) = bytes.strip_suffix(b"\r\n") else {
        if bytes.len() >= V1_MAX {
            return Err(ProxyError::TooLong);
        }
        return Ok(Progress::Need(if bytes.ends_with(b"\r") { 1 } else { 2.min(V1_MAX - bytes.len()) }));
    };
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().ok_or(ProxyError::Line);
    let family = word()?;
    if family == "UNKNOWN" {
        return Ok(Progress::Done(Told::Own));
    }
    let (source, destination) = (address(family, word()?)?, address(family, word()?)?);
    let (port, other) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(ProxyError::Line);
    }
    let _destination = SocketAddr::new(destination, other);
    Ok(Progress::Done(Told::Client(SocketAddr::new(source, port))))
}

fn address(family: &str, text: &str) -> Result<IpAddr, ProxyError> {
    let address: IpAddr = text.parse().map_err(|_| ProxyError::Line)?;
    let fits = match family {
        "TCP4" => address.is_ipv4(),
        "TCP6" => address.is_ipv6(),
        _ => false,
    };
    if fits { Ok(address) } else { Err(ProxyError::Line) }
}

fn port(text: &str) -> Result<u16, ProxyError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain).ok_or(ProxyError::Line)
}

fn v2(bytes: &[u8]) -> Result<Progress, ProxyError> {
    let Some((head, rest)) = bytes.split_first_chunk::<V2_HEAD>() else {
        return Ok(Progress::Need(V2_HEAD - bytes.len()));
    };
    let [.., kind, family, high, low] = *head;
    if kind >> 4 != 2 {
        return Err(ProxyError::Version(kind >> 4));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_MAX {
        return Err(ProxyError::Long(length));
    }
    if let Some(missing) = length.checked_sub(rest.len()).filter(|missing| *missing > 0) {
        return Ok(Progress::Need(missing));
    }
    let told = match (kind & 0x0f, family >> 4) {
        // LOCAL: the addresses do not matter.
        (0, _) => Told::Own,
        (1, 1) => v4_source(rest).map(Told::Client).ok_or(ProxyError::Short(length))?,
        (1, 2) => v6_source(rest).map(Told::Client).ok_or(ProxyError::Short(length))?,
        (1, 3) if length < UNIX_BYTES => return Err(ProxyError::Short(length)),
        // Unix sockets and unspecified families tell no address.
        (1, _) => Told::Own,
        (command, _) => return Err(ProxyError::Command(command)),
    };
    Ok(Progress::Done(told))
}

/// What the two addresses of Unix sockets take.
const UNIX_BYTES: usize = 216;

/// Source and destination address, then source and destination port.
fn v4_source(bytes: &[u8]) -> Option<SocketAddr> {
    let (source, rest) = bytes.split_first_chunk::<4>()?;
    let (_destination, rest) = rest.split_first_chunk::<4>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    rest.split_first_chunk::<2>()?;
    Some((Ipv4Addr::from(*source), u16::from_be_bytes(*port)).into())
}

fn v6_source(bytes: &[u8]) -> Option<SocketAddr> {
    let (source, rest) = bytes.split_first_chunk::<16>()?;
    let (_destination, rest) = rest.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    rest.split_first_chunk::<2>()?;
    Some((Ipv6Addr::from(*source), u16::from_be_bytes(*port)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds as a driver does: what is needed and no more. What was told, and what is left.
    fn read(bytes: &[u8]) -> Result<(Told, &[u8]), Option<ProxyError>> {
        let mut have = 0;
        loop {
            match parse(&bytes[..have]).map_err(Some)? {
                Progress::Done(told) => return Ok((told, &bytes[have..])),
                Progress::Need(more) if more > 0 && have + more <= bytes.len() => have += more,
                Progress::Need(_) => return Err(None),
            }
        }
    }

    fn client(text: &str) -> Told {
        Told::Client(text.parse().unwrap())
    }

    fn header(kind: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2_SIGNATURE, &[kind, family], &length, body].concat()
    }

    #[test]
    fn version_1_tells_the_client_and_takes_no_byte_behind_it() {
        let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 1883\r\n\x10\x0c";
        assert_eq!(read(line), Ok((client("192.0.2.7:56324"), &b"\x10\x0c"[..])));
        let line = b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n";
        assert_eq!(read(line), Ok((client("[2001:db8::7]:1"), &b""[..])));
        assert_eq!(read(b"PROXY UNKNOWN\r\nx"), Ok((Told::Own, &b"x"[..])));
        let longest = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                        ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), V1_MAX);
        assert_eq!(read(longest), Ok((Told::Own, &b""[..])));
    }

    #[test]
    fn version_1_that_is_wrong_is_refused() {
        for line in [
            "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
        ] {
            assert_eq!(read(line.as_bytes()), Err(Some(ProxyError::Line)), "{line}");
        }
        assert_eq!(read(format!("PROXY {}", "x".repeat(200)).as_bytes()), Err(Some(ProxyError::TooLong)));
        assert_eq!(parse(b"\x10\x0c\x00\x04MQTT\x05"), Err(ProxyError::NoHeader));
        assert_eq!(parse(b"GET / HTTP/1.1"), Err(ProxyError::NoHeader));
        assert_eq!(parse(b"PROX"), Ok(Progress::Need(11)));
    }

    #[test]
    fn version_2_tells_the_client_and_skips_fields() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 7, 91];
        let fields = [0x04, 0, 2, 0, 0, 0xee, 0, 0];
        let bytes = [header(0x21, 0x11, &[&v4[..], &fields].concat()), b"next".to_vec()].concat();
        assert_eq!(read(&bytes), Ok((client("192.0.2.7:4660"), &b"next"[..])));
        let mut v6 = [0; 36];
        v6[15] = 7;
        v6[33] = 9;
        assert_eq!(read(&header(0x21, 0x21, &v6)), Ok((client("[::7]:9"), &b""[..])));
        assert_eq!(read(&header(0x21, 0x31, &[0; 216])), Ok((Told::Own, &b""[..])));
        assert_eq!(read(&header(0x20, 0x00, &[])), Ok((Told::Own, &b""[..])));
        assert_eq!(read(&header(0x20, 0x11, &[1])), Ok((Told::Own, &b""[..])));
    }

    #[test]
    fn version_2_that_is_wrong_is_refused() {
        assert_eq!(read(&header(0x11, 0x11, &[0; 12])), Err(Some(ProxyError::Version(1))));
        assert_eq!(read(&header(0x22, 0x11, &[0; 12])), Err(Some(ProxyError::Command(2))));
        assert_eq!(read(&header(0x21, 0x11, &[0; 11])), Err(Some(ProxyError::Short(11))));
        assert_eq!(read(&header(0x21, 0x21, &[0; 12])), Err(Some(ProxyError::Short(12))));
        assert_eq!(read(&header(0x21, 0x11, &[0; 4097])), Err(Some(ProxyError::Long(4097))));
        assert_eq!(read(&header(0x21, 0x11, &[0; 12])[..20]), Err(None));
    }
}
