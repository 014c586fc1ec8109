//! What headers of OTLP/HTTP say about bodies.

use hesper_collector_config::Compression;
use hesper_otlp::Refusal;
use http::{HeaderMap, HeaderValue, header};

/// Does the `Content-Type` belong to gRPC?
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let name = b"application/grpc";
    let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let (Some(start), rest) = (value.get(..name.len()), value.get(name.len()..).unwrap_or_default()) else {
        return false;
    };
    start.eq_ignore_ascii_case(name) && matches!(rest.first(), None | Some(b'+' | b';'))
}

/// Is it gRPC with messages in protobuf?
pub(crate) fn is_grpc_proto(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    media_type.eq_ignore_ascii_case(b"application/grpc")
        || media_type.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// How a body or message is compressed, by the one header that says so. Not to be compressed is always allowed.
pub(crate) fn compression(
    headers: &HeaderMap,
    name: &header::HeaderName,
    allowed: &[Compression],
) -> Result<Compression, Refusal> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), more) = (values.next(), values.next()) else { return Ok(Compression::None) };
    let text = value.as_bytes().trim_ascii();
    let named = |coding: &str| text.eq_ignore_ascii_case(coding.as_bytes());
    if more.is_none() && (text.is_empty() || named("identity") || named("none")) {
        return Ok(Compression::None);
    }
    let known = allowed.iter().find(|compression| named(coding(**compression)));
    match (known, more) {
        (Some(compression), None) => Ok(*compression),
        (None, None) => Err(Refusal::Compression(String::from_utf8_lossy(text).into_owned())),
        (_, Some(_)) => Err(Refusal::Compression("several".to_owned())),
    }
}

/// The name of a compression in headers.
pub(crate) fn coding(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "identity",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Snappy => "snappy",
        Compression::Zlib => "zlib",
        Compression::Deflate => "deflate",
        Compression::Lz4 => "lz4",
    }
}

/// May the answer be compressed with gzip? (RFC 9110 §12.5.3; `*` is not taken for it.)
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let gzip = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|part| {
            let weight = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            weight.is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0))
        });
        gzip && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).expect("a value"))).collect()
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let is = |value| is_grpc(&headers(header::CONTENT_TYPE, &[value]));
        assert!(is("application/grpc") && is("application/grpc+proto") && is("Application/gRPC; a=b"));
        assert!(!is("application/grpc-web") && !is("application/json") && !is("application/grp"));
        assert!(!is_grpc(&HeaderMap::new()));
        assert!(is_grpc_proto(b"application/grpc+proto") && is_grpc_proto(b"application/grpc ; x=y"));
        assert!(!is_grpc_proto(b"application/grpc+json"));
    }

    #[test]
    fn one_coding_in_any_case() {
        const ALL: [Compression; 2] = [Compression::Gzip, Compression::Zstd];
        let of = |values: &[&str]| {
            compression(&headers(header::CONTENT_ENCODING, values), &header::CONTENT_ENCODING, &ALL)
        };
        assert_eq!(of(&[]), Ok(Compression::None));
        for none in ["", "identity", "Identity", "none"] {
            assert_eq!(of(&[none]), Ok(Compression::None));
        }
        assert_eq!(of(&["GZIP"]), Ok(Compression::Gzip));
        assert_eq!(of(&["br"]), Err(Refusal::Compression("br".into())));
        assert_eq!(of(&["snappy"]), Err(Refusal::Compression("snappy".into())), "not allowed here");
        assert_eq!(of(&["gzip, gzip"]), Err(Refusal::Compression("gzip, gzip".into())));
        assert_eq!(of(&["gzip", "gzip"]), Err(Refusal::Compression("several".into())));
    }

    #[test]
    fn check_10_gzip_is_accepted_by_those_who_say_so() {
        let accepts = |values: &[&str]| accepts_gzip(&headers(header::ACCEPT_ENCODING, values));
        assert!(accepts(&["gzip"]) && accepts(&["br, GZIP;q=0.5"]) && accepts(&["br", "gzip"]));
        assert!(
            !accepts(&[]) && !accepts(&["br"]) && !accepts(&["gzip;q=0"]) && !accepts(&["gzip; q=0.000"])
        );
        assert!(!accepts(&["*"]));
    }
}
