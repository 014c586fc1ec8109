//! Requests of scripts in browsers (the Fetch standard, "CORS protocol"). It is the browser that enforces; it asks us before.
//!
//! An origin that is allowed only by `*` gets no credentials: that is what `*` means.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

/// Headers that a script may send when nothing is configured.
const DEFAULT_HEADERS: [&str; 3] = ["accept", "content-type", "x-requested-with"];

/// Who may do what.
#[derive(Clone, Debug)]
pub(crate) struct Cors {
    origins: Vec<String>,
    any_origin: bool,
    headers: Vec<String>,
    any_header: bool,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
}

impl Cors {
    /// From the settings. `None`: no origin is allowed.
    ///
    /// # Errors
    /// The name of a key whose value is no header.
    pub(crate) fn new(settings: &hesper_collector_config::Cors) -> Result<Option<Self>, &'static str> {
        if settings.allowed_origins.is_empty() {
            return Ok(None);
        }
        let mut headers: Vec<String> =
            settings.allowed_headers.iter().map(|h| h.to_ascii_lowercase()).collect();
        if headers.is_empty() {
            headers = DEFAULT_HEADERS.map(str::to_owned).to_vec();
        }
        let exposed = settings.exposed_headers.join(", ");
        let exposed = HeaderValue::try_from(exposed).map_err(|_| "cors.exposed_headers")?;
        Ok(Some(Self {
            any_origin: settings.allowed_origins.iter().any(|origin| origin == "*"),
            origins: settings.allowed_origins.iter().map(|origin| origin.to_ascii_lowercase()).collect(),
            any_header: headers.iter().any(|header| header == "*"),
            headers,
            exposed: Some(exposed).filter(|value| !value.is_empty()),
            max_age: (settings.max_age > 0).then(|| settings.max_age.into()),
        }))
    }

    /// Is it the question before a request?
    pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The headers of the answer to that question; without the right to it, there is nothing in them that allows anything.
    pub(crate) fn preflight(&self, request: &HeaderMap) -> HeaderMap {
        let mut answer = HeaderMap::new();
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        answer.insert(header::VARY, HeaderValue::from_static(vary));
        let post = request.get(header::ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|method| method == "POST");
        let wanted = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let (true, true, Some(origin)) = (post, self.allows_headers(wanted), request.get(header::ORIGIN))
        else {
            return answer;
        };
        if !self.allow_origin(origin, &mut answer) {
            return answer;
        }
        answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
        let mut maybe = |name: HeaderName, value: Option<&HeaderValue>| {
            value.map(|value| answer.insert(name, value.clone()))
        };
        maybe(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
        maybe(header::ACCESS_CONTROL_MAX_AGE, self.max_age.as_ref());
        answer
    }

    /// Adds to the answer of a request what lets the script read it.
    pub(crate) fn answer(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = request.get(header::ORIGIN) else { return };
        if let (true, Some(exposed)) = (self.allow_origin(origin, answer), &self.exposed) {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }

    fn allow_origin(&self, origin: &HeaderValue, answer: &mut HeaderMap) -> bool {
        let name = header::ACCESS_CONTROL_ALLOW_ORIGIN;
        if self.any_origin {
            answer.insert(name, HeaderValue::from_static("*"));
            return true;
        }
        let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        let allowed = self.origins.iter().any(|pattern| matches(pattern, &text));
        if allowed {
            answer.insert(name, origin.clone());
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        allowed
    }

    fn allows_headers(&self, wanted: Option<&HeaderValue>) -> bool {
        let Some(wanted) = wanted else { return true };
        let Ok(wanted) = wanted.to_str() else { return false };
        let allows = |name: &str| {
            name.is_empty() || self.headers.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
        };
        self.any_header || wanted.split(',').all(|name| allows(name.trim()))
    }
}

/// Does a text fit a pattern, in which each `*` stands for any characters?
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').map_or((None, rest), |(middle, end)| (Some(middle), end));
    for part in middle.into_iter().flat_map(|middle| middle.split('*')) {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], headers: &[&str]) -> Cors {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        let settings = hesper_collector_config::Cors {
            allowed_origins: own(origins),
            allowed_headers: own(headers),
            exposed_headers: own(&["x-a", "x-b"]),
            max_age: 600,
        };
        Cors::new(&settings).expect("headers").expect("origins")
    }

    fn ask(origin: &'static str, headers: &'static str) -> HeaderMap {
        [
            (header::ORIGIN, origin),
            (header::ACCESS_CONTROL_REQUEST_METHOD, "POST"),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, headers),
        ]
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect()
    }

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("https://a.example", "https://a.example", true),
            ("https://*.example", "https://a.b.example", true),
            ("https://*.example", "https://example", false),
            ("https://*.example", "https://a.example.evil", false),
            ("http*://*.a.*", "https://x.a.y", true),
            ("http*://*.a.*", "https://x.b.y", false),
            ("ab*b", "ab", false),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn a_preflight_is_allowed_what_is_configured() {
        let cors = cors(&["https://*.shop.example"], &["X-Tenant", "content-type"]);
        let yes = cors.preflight(&ask("https://Web.shop.example", "Content-Type, x-tenant"));
        assert_eq!(yes[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://Web.shop.example");
        assert_eq!(yes[header::ACCESS_CONTROL_ALLOW_HEADERS], "Content-Type, x-tenant");
        assert_eq!(yes[header::ACCESS_CONTROL_ALLOW_METHODS], "POST");
        assert_eq!(yes[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(yes[header::ACCESS_CONTROL_MAX_AGE], "600");
        for (origin, headers) in
            [("https://evil.example", "x-tenant"), ("https://web.shop.example", "x-other")]
        {
            let no = cors.preflight(&ask(origin, headers));
            assert_eq!(no.keys().collect::<Vec<_>>(), [header::VARY]);
        }
    }

    #[test]
    fn anybody_gets_no_credentials() {
        let cors = cors(&["*"], &[]);
        let answer = cors.preflight(&ask("https://any.example", "content-type"));
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!answer.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert!(
            !cors
                .preflight(&ask("https://any.example", "x-other"))
                .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
        );
    }

    #[test]
    fn answers_expose_what_is_configured() {
        let mut answer = HeaderMap::new();
        cors(&["https://a.example"], &["*"]).answer(&ask("https://a.example", ""), &mut answer);
        assert_eq!(answer[header::ACCESS_CONTROL_EXPOSE_HEADERS], "x-a, x-b");
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(answer[header::VARY], "Origin");
    }
}
