//! PEM armour (RFC 7468).

use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// Characters per line of the body.
const LINE: usize = 64;

/// Wraps DER in PEM under `label`, for example `CERTIFICATE`.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Text that is not what was expected in PEM.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The armour or its base64 is broken.
    #[error("this is not valid PEM: {0}")]
    Broken(String),
    /// There is no `CERTIFICATE` in the text.
    #[error("there is no certificate in this PEM text")]
    NoCertificate,
}

/// Every certificate in the text, in order; at least one.
pub fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| PemError::Broken(e.to_string()))?;
    if found.is_empty() { Err(PemError::NoCertificate) } else { Ok(found) }
}

/// The certificates as one PEM text, in order.
pub fn encode_certificates(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|der| encode("CERTIFICATE", der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_with_short_lines() {
        for len in [0, 1, 47, 48, 49, 500] {
            let der = CertificateDer::from(vec![7; len]);
            let text = encode_certificates(&[der.clone(), der.clone()]);
            assert!(text.lines().all(|line| line.len() <= LINE), "{text}");
            assert_eq!(certificates(&text).unwrap(), [der.clone(), der]);
        }
    }

    #[test]
    fn text_without_a_certificate_is_refused() {
        assert!(matches!(certificates("hello"), Err(PemError::NoCertificate)));
        assert!(matches!(certificates("-----BEGIN CERTIFICATE-----\n!\n"), Err(PemError::Broken(_))));
    }
}
