//! An answer that goes on: lines, as they come.

use super::{Action, MANAGEMENT, Session, refusal::refusal};
use anyhow::{Context, Result, anyhow};
use reqwest::{Response, StatusCode};
use std::time::Duration;
use tokio::time::timeout;

/// An answer may go on for so long; the controller ends it sooner.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// The controller says something every ten seconds.
const SILENCE: Duration = Duration::from_secs(40);
/// Longest line.
const LINE_MAX: usize = 1024 * 1024;

/// Why there is no stream.
#[derive(Debug)]
pub(crate) enum NoStream {
    /// To ask again does not help.
    Refused(anyhow::Error),
    /// It may in a moment.
    Unreachable(anyhow::Error),
}

/// The lines of an answer.
pub(crate) struct Lines {
    answer: Response,
    buffer: Vec<u8>,
}

impl Session {
    /// GET of an answer that goes on.
    ///
    /// # Errors
    /// The controller cannot be reached or has no room just now, or it refused.
    pub(crate) async fn lines(&self, path: &str, query: &[(&str, &str)]) -> Result<Lines, NoStream> {
        let url = self.client.base.join(MANAGEMENT).and_then(|u| u.join(path)).context("a path");
        let url = url.map_err(NoStream::Refused)?;
        let asked = self.client.http.get(url).query(query).bearer_auth(&self.token).timeout(LONGEST);
        let answer = match timeout(self.client.timeout, asked.send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(NoStream::Unreachable(self.client.unreachable(&error).await)),
            Err(_) => {
                let seconds = self.client.timeout.as_secs();
                let base = &self.client.base;
                let told = anyhow!("the controller at {base} did not answer within {seconds} s");
                return Err(NoStream::Unreachable(told));
            }
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(Lines { answer, buffer: Vec::new() });
        }
        let text = timeout(self.client.timeout, answer.bytes()).await.ok().and_then(Result::ok);
        let told = anyhow!(refusal(Action::Listing, path, status, &text.unwrap_or_default()));
        let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        Err(if passing { NoStream::Unreachable(told) } else { NoStream::Refused(told) })
    }
}

impl Lines {
    /// A header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// The next line without its end; none = the answer has ended, or the connection has.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                return Some(line);
            }
            if self.buffer.len() > LINE_MAX {
                return None;
            }
            match timeout(SILENCE, self.answer.chunk()).await {
                Ok(Ok(Some(chunk))) => self.buffer.extend_from_slice(&chunk),
                Ok(Ok(None) | Err(_)) | Err(_) => return None,
            }
        }
    }
}
