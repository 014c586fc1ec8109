//! `no_proxy`: which hosts are reached without the proxy.

use std::net::IpAddr;

/// Is this host on the list? Its entries are divided by commas: a host, a domain (`.example.com`, or `example.com` with everything
/// below it), an address, a network (`10.0.0.0/8`), each perhaps with a port, or `*`.
pub(super) fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| fits(entry, &host, port))
}

fn fits(entry: &str, host: &str, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let address = host.parse::<IpAddr>().ok();
    if let (Some((network, bits)), Some(address)) = (entry.split_once('/'), address) {
        return is_within(network, bits, address);
    }
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') || name.ends_with(']') => (name, digits.parse().ok()),
        _ => (entry, None),
    };
    if wanted.is_some_and(|wanted: u16| wanted != port) {
        return false;
    }
    let name = name.trim_matches(['[', ']']).to_ascii_lowercase();
    match (name.parse::<IpAddr>(), address) {
        (Ok(name), address) => address == Some(name),
        (Err(_), Some(_)) => false,
        (Err(_), None) => match name.trim_start_matches('*').strip_prefix('.') {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            None => host.strip_suffix(&*name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        },
    }
}

fn is_within(network: &str, bits: &str, address: IpAddr) -> bool {
    let Ok(bits) = bits.parse::<u32>() else { return false };
    match (network.parse::<IpAddr>(), address) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address)) if bits <= 32 => {
            (network.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address)) if bits <= 128 => {
            (network.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_the_list() {
        for (list, host, expected) in [
            ("", "a", false),
            ("*", "a", true),
            ("example.com", "example.com", true),
            ("example.com", "a.EXAMPLE.com", true),
            ("example.com", "notexample.com", false),
            (".example.com", "example.com", false),
            ("x, *.example.com", "a.example.com", true),
            ("example.com:9100", "example.com", true),
            ("example.com:9101", "example.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("0.0.0.0/0", "11.1.2.3", true),
            ("10.0.0.0/8", "host", false),
            ("fd00::/8", "fd12::1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "::1", true),
            ("[::1]:9100", "::1", true),
            ("0.0.1", "127.0.0.1", false),
        ] {
            assert_eq!(is_exempt(list, host, 9100), expected, "{list} {host}");
        }
    }
}
