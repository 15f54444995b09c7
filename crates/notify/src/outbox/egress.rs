//! Where webhooks may go. Their addresses come from callers, who must not reach the operator's own network through us: the
//! address is checked after the name was resolved, and exactly that address is connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

const LONGEST_URL: usize = 2_048;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("it is not an absolute URL of at most {LONGEST_URL} bytes, such as https://hooks.example.com/tollway")]
    Form,
    #[error("it begins neither with https:// nor with http://")]
    Scheme,
    #[error("it leads to a private address, which this gateway does not send to")]
    Private,
}

/// Checks what can be told without resolving the name; [`Egress`] does the rest.
pub fn check_url(text: &str, private_allowed: bool) -> Result<Url, BadUrl> {
    // The parser drops or escapes them; what is stored is the text itself.
    if text.len() > LONGEST_URL || text.chars().any(char::is_control) {
        return Err(BadUrl::Form);
    }
    let url: Url = text.parse().map_err(|_| BadUrl::Form)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadUrl::Scheme);
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(BadUrl::Form)?;
    // The parser has turned 0x7f.1 and its like into 127.0.0.1; an IPv6 address stands in brackets.
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if literal.is_ok_and(|ip| !private_allowed && !is_public(ip)) {
        return Err(BadUrl::Private);
    }
    Ok(url)
}

/// Resolves names to public addresses. reqwest never asks it about an IP literal: see [`check_url`].
#[derive(Debug, Clone, Copy)]
pub struct Egress {
    pub private_allowed: bool,
}

impl Resolve for Egress {
    fn resolve(&self, name: Name) -> Resolving {
        let private_allowed = self.private_allowed;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let kept = keep(found, private_allowed);
            if kept.is_empty() {
                return Err(Box::new(BadUrl::Private) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(kept.into_iter()) as Addrs)
        })
    }
}

fn keep(found: Vec<SocketAddr>, private_allowed: bool) -> Vec<SocketAddr> {
    found.into_iter().filter(|address| private_allowed || is_public(address.ip())).collect()
}

/// Whether an address belongs to the public internet: everything that a registry of special purposes names is left out.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry>
fn is_public_v4(ip: Ipv4Addr) -> bool {
    const SPECIAL: [([u8; 4], u32); 15] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        // Shared by carriers' customers.
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        // Clouds answer here with the machine's credentials.
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        // Multicast, and reserved up to the broadcast address.
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
    ];
    let bits = u32::from(ip);
    !SPECIAL.iter().any(|(net, length)| (bits ^ u32::from(Ipv4Addr::from(*net))) >> (32 - length) == 0)
}

/// <https://www.iana.org/assignments/iana-ipv6-special-registry>. Public is only what lies in 2000::/3 without its special
/// parts, and what a translator makes of a public IPv4 address.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [.., a, b, c, d] = ip.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    let special = (s[0] == 0x2001 && (s[1] < 0x200 || s[1] == 0xdb8)) // protocol assignments, Teredo among them; examples
        || s[0] == 0x2002 // 6to4 has an IPv4 address inside
        || (s[0] == 0x3fff && s[1] < 0x1000);
    s[0] & 0xe000 == 0x2000 && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let private = [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "203.0.113.9",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "100::1",
            "3fff::1",
        ];
        for ip in private {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "193.0.0.1",
            "2606:4700::1111",
            "2001:4860::8888",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn literals_are_seen_through_their_disguises() {
        let private = [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://[::1]:8080/",
            "http://[::ffff:169.254.169.254]/latest",
            "https://user@10.0.0.1/",
            "http://127.1/",
        ];
        for url in private {
            assert_eq!(check_url(url, false), Err(BadUrl::Private), "{url}");
            assert!(check_url(url, true).is_ok(), "{url}");
        }
        for url in [
            "",
            "hooks.example.com/a",
            "http://",
            "https://exa mple.com/",
            &format!("https://a.io/{}", "x".repeat(2048)),
        ] {
            assert_eq!(check_url(url, true), Err(BadUrl::Form), "{url}");
        }
        for url in ["ftp://example.com/", "file:///etc/passwd", "gopher://example.com/"] {
            assert!(check_url(url, true).is_err(), "{url}");
        }
        assert!(check_url("https://hooks.example.com:8443/a?token=b", false).is_ok());
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        let resolve = |private_allowed| Egress { private_allowed }.resolve("localhost".parse().unwrap());
        let Err(refused) = resolve(false).await else { panic!("localhost passed") };
        assert_eq!(refused.to_string(), BadUrl::Private.to_string());
        assert!(resolve(true).await.unwrap().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn of_several_addresses_only_the_public_ones_are_tried() {
        let found = ["10.0.0.1:0", "8.8.8.8:0"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(keep(found, false), ["8.8.8.8:0".parse().unwrap()]);
    }
}
