//! `basicauth`: names and passwords of callers (`htpasswd`), or ours (`client_auth`).

use crate::{Secret, credential, section::Section};

/// Server or client; an extension is one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BasicAuth {
    /// `htpasswd`: checks callers.
    Server(BasicAuthServer),
    /// `client_auth`: says who we are.
    Client(BasicAuthClient),
}

/// Where the htpasswd lines are. Both may be there; of two lines for one user the inline one counts, and the later one.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BasicAuthServer {
    /// A file of `user:encoded password` lines.
    pub file: Option<String>,
    /// Such lines.
    pub inline: Option<Secret>,
}

/// Our name and password. A file, when there is one, counts before the inline text, as in the Collector.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BasicAuthClient {
    /// `username`
    pub username: String,
    /// `password`
    pub password: Secret,
    /// A file with the name; read again when it changes.
    pub username_file: Option<String>,
    /// A file with the password; read again when it changes.
    pub password_file: Option<String>,
}

pub(crate) fn read(s: &Section<'_>) -> BasicAuth {
    s.unsupported(
        "aws_secrets_manager",
        "let the password be written into a file, and name it as password_file",
    );
    let server = s.section("htpasswd", htpasswd);
    let client = s.section("client_auth", client_auth);
    match (server, client) {
        (Some(_), Some(_)) => {
            s.fault(
                s.place_of("client_auth"),
                format!("{} has htpasswd and client_auth", s.what),
                "make two of it",
            );
            BasicAuth::Server(BasicAuthServer::default())
        }
        (Some(server), None) => BasicAuth::Server(server),
        (None, client) => {
            if client.is_none() && !s.has("client_auth") && !s.has("htpasswd") {
                let next = "add htpasswd (who may come in) or client_auth (who we are)";
                s.fault(&s.place, format!("{} says nothing", s.what), next);
            }
            BasicAuth::Client(client.unwrap_or_default())
        }
    }
}

fn htpasswd(s: &Section<'_>) -> BasicAuthServer {
    let server = BasicAuthServer { file: s.text("file"), inline: s.secret("inline") };
    if server.file.is_none() && !s.is_set("inline") {
        s.fault(
            &s.place,
            format!("{} names nobody", s.what),
            "add file or inline with lines `user:password`",
        );
    }
    if let Some(inline) = &server.inline {
        credential::check_htpasswd(s, "inline", inline);
    }
    server
}

fn client_auth(s: &Section<'_>) -> BasicAuthClient {
    let client = BasicAuthClient {
        username: s.text_or("username", ""),
        password: s.secret("password").unwrap_or_default(),
        username_file: s.text("username_file"),
        password_file: s.text("password_file"),
    };
    if !s.is_set("username") && client.username_file.is_none() {
        s.fault(
            s.place_of("username"),
            format!("{} has no username", s.what),
            "add username or username_file",
        );
    }
    if !s.is_set("password") && client.password_file.is_none() {
        s.fault(
            s.place_of("password"),
            format!("{} has no password", s.what),
            "add password or password_file",
        );
    }
    if client.username.contains(':') {
        s.refuse("username", "a colon ends the name in the header", "choose a name without it");
    }
    credential::check(s, "username", &client.username);
    credential::check(s, "password", client.password.expose());
    client
}
