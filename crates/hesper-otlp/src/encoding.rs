//! The two encodings of OTLP/HTTP.

/// How a request of OTLP/HTTP is encoded; the response must be encoded alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

impl Encoding {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    /// Reads a `Content-Type`, in any case and whatever its parameters; `None` is for status 415.
    pub fn of_content_type(header: &str) -> Option<Self> {
        let media_type = header.split(';').next().unwrap_or_default().trim();
        [Self::Protobuf, Self::Json]
            .into_iter()
            .find(|encoding| media_type.eq_ignore_ascii_case(encoding.content_type()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_11_content_types_in_any_case_and_with_parameters() {
        let json = ["application/json", "Application/JSON; charset=utf-8", " application/json ;a=b"];
        assert!(json.iter().all(|header| Encoding::of_content_type(header) == Some(Encoding::Json)));
        assert_eq!(Encoding::of_content_type("application/x-protobuf"), Some(Encoding::Protobuf));
        for other in ["", "text/plain", "application/protobuf", "application/json-seq", "application"] {
            assert_eq!(Encoding::of_content_type(other), None, "{other}");
        }
    }
}
