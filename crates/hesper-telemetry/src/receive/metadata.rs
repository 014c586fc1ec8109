//! What gRPC writes into headers: deadlines, texts, bytes.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use std::{fmt::Write, time::Duration};

/// Base64 of headers in `-bin`: written without padding, read with and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads a `grpc-timeout`: up to eight digits and a unit. `None`: it is none.
pub(crate) fn read_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Writes a `grpc-message`: what is not printable ASCII, and the percent sign, as `%XX`.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// Writes the value of a header in `-bin`.
pub(crate) fn write_binary(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Reads the value of a header in `-bin`.
pub(crate) fn read_binary(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        let ms = |text: &str| read_timeout(text.as_bytes()).map(|timeout| timeout.as_millis());
        assert_eq!(ms("1S"), Some(1000));
        assert_eq!(ms("99999999H"), Some(359_999_996_400_000));
        assert_eq!(
            (ms("2M"), ms("250m"), ms("5000u"), ms("1000000n")),
            (Some(120_000), Some(250), Some(5), Some(1))
        );
        for bad in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S", "+1S"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn messages_are_printable_ascii() {
        assert_eq!(percent_encode("50 % é\n~"), "50 %25 %C3%A9%0A~");
        assert_eq!(percent_encode("\u{7f}\u{1f600}"), "%7F%F0%9F%98%80");
    }

    #[test]
    fn binary_headers_with_and_without_padding() {
        assert_eq!(write_binary(b"ab"), "YWI");
        assert_eq!(read_binary(b"YWI"), Some(b"ab".to_vec()));
        assert_eq!(read_binary(b"YWI="), Some(b"ab".to_vec()));
        assert_eq!(read_binary(b"YW I"), None);
    }
}
