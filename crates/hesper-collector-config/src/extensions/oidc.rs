//! `oidc`: callers with tokens of an OpenID Connect provider.

use crate::{remark::Topic, section::Section};

/// Where the token is and who may have issued it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oidc {
    /// The header that holds the token (`authorization`).
    pub attribute: String,
    /// The providers; the token's `iss` chooses one.
    pub providers: Vec<OidcProvider>,
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcProvider {
    /// Its URL, which is the `iss` of its tokens.
    pub issuer_url: String,
    /// Who its tokens must be for.
    pub audience: String,
    /// Take tokens for anybody?
    pub ignore_audience: bool,
    /// The CA of its HTTPS; None: the system's roots.
    pub issuer_ca_path: Option<String>,
    /// The claim that names the caller (`sub`).
    pub username_claim: String,
    /// The claim that lists its groups.
    pub groups_claim: Option<String>,
    /// Its keys as a JWKS file, read again when it changes: then nothing is fetched.
    pub public_keys_file: Option<String>,
}

pub(crate) fn read(s: &Section<'_>) -> Oidc {
    let mut providers = s.sections("providers", provider);
    // The keys of one provider in the extension itself are the older form.
    let own = ["issuer_url", "audience", "public_keys_file"].iter().any(|key| s.is_set(key));
    if own || (providers.is_empty() && !s.is_set("providers")) {
        if own && s.is_set("providers") {
            s.refuse("providers", "given besides the keys of one provider", "move those into providers");
        }
        providers = vec![provider(s)];
    } else {
        know(s);
    }
    let mut seen: Vec<&str> = Vec::new();
    for provider in &providers {
        if seen.contains(&&*provider.issuer_url) && !provider.issuer_url.is_empty() {
            s.refuse("providers", format_args!("{} is there twice", provider.issuer_url), "keep one of them");
        }
        seen.push(&provider.issuer_url);
    }
    if providers.is_empty() {
        s.fault(
            &s.place,
            format!("{} names no provider", s.what),
            "add providers with issuer_url and audience",
        );
    }
    Oidc { attribute: s.text_or("attribute", "authorization"), providers }
}

/// The keys of a provider count as known in the extension too, so that a typing error finds them.
fn know(s: &Section<'_>) {
    for key in ["issuer_url", "audience", "ignore_audience", "issuer_ca_path"] {
        s.open(key);
    }
    for key in ["username_claim", "groups_claim", "public_keys_file", "ignore_audience", "issuer_ca_path"] {
        if s.is_set(key) {
            s.refuse(key, "belongs to a provider", "move it into providers");
        }
    }
}

fn provider(s: &Section<'_>) -> OidcProvider {
    let provider = OidcProvider {
        issuer_url: s.needed("issuer_url", "write the URL of the provider"),
        audience: s.text_or("audience", ""),
        ignore_audience: s.flag("ignore_audience", false),
        issuer_ca_path: s.text("issuer_ca_path"),
        username_claim: s.text_or("username_claim", "sub"),
        groups_claim: s.text("groups_claim"),
        public_keys_file: s.text("public_keys_file"),
    };
    if provider.audience.is_empty() && !provider.ignore_audience {
        let next = "write who tokens must be for, or ignore_audience: true to take tokens for anybody";
        s.fault(s.place_of("audience"), format!("{} has no audience", s.what), next);
    }
    if provider.public_keys_file.is_none() && provider.issuer_url.starts_with("http://") {
        let reason = format!("{} fetches keys without TLS: whoever is between can let anybody in", s.what);
        s.remark(
            Topic::Insecure,
            "issuer_url",
            reason,
            "write https://, or give the keys with public_keys_file",
        );
    }
    provider
}
