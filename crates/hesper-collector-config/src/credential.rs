//! Passwords and names that will not match what people type: quotes, line breaks and spaces that came along by accident.

use crate::{Secret, remark::Topic, section::Section};

/// What came along with a credential by accident.
fn accident(text: &str) -> Option<&'static str> {
    if text.ends_with('\n') {
        Some("ends with a line break, which is sent along: `echo` adds one, and so does a block behind |")
    } else if text.contains(['\n', '\r']) {
        Some("has a line break in it")
    } else if quoted(text) {
        Some("has quotes around it that are part of it")
    } else if text.trim() != text {
        Some("begins or ends with a space, which is part of it")
    } else {
        None
    }
}

fn quoted(text: &str) -> bool {
    ['"', '\''].iter().any(|quote| text.len() > 1 && text.starts_with(*quote) && text.ends_with(*quote))
}

/// Remarks on a credential. What it says is not shown.
pub(crate) fn check(s: &Section<'_>, key: &'static str, text: &str) {
    if let Some(accident) = accident(text) {
        let reason = format!("{key} of {} {accident}", s.what);
        s.remark(Topic::Credential, key, reason, "leave it out, unless it is meant");
    }
    placeholder(s, key, text);
}

/// A text that was to be replaced.
fn placeholder(s: &Section<'_>, key: &'static str, text: &str) {
    if text.trim_start().starts_with("<REPLACE") {
        s.refuse(key, "this was to be replaced", "write the real value");
    }
}

/// Remarks on htpasswd lines: one user each, `user:password`.
pub(crate) fn check_htpasswd(s: &Section<'_>, key: &'static str, lines: &Secret) {
    placeholder(s, key, lines.expose());
    let mut users = 0;
    for (i, line) in lines.expose().lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        let number = i + 1;
        let Some((user, _)) = line.split_once(':') else {
            let reason = format!("line {number} of {key} of {} has no colon and lets nobody in", s.what);
            s.remark(Topic::Credential, key, reason, "write it as user:password");
            continue;
        };
        users += 1;
        if user.starts_with(['"', '\'']) {
            let reason = format!("line {number} of {key} of {} has quotes that are part of the name", s.what);
            s.remark(
                Topic::Credential,
                key,
                reason,
                "leave them out: a block behind | keeps every character",
            );
        }
    }
    if users == 0 {
        s.remark(
            Topic::Credential,
            key,
            format!("{key} of {} lets nobody in", s.what),
            "add lines `user:password`",
        );
    }
}
