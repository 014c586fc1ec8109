//! Enrollment, the control channel and renewal, against a small controller on loopback with real TLS.

#[cfg(test)]
mod channel;
#[cfg(test)]
mod enroll;
#[cfg(test)]
mod server;
