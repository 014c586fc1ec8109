//! The public face of hesper-pki, exercised with real keys, files and handshakes.

#[cfg(test)]
mod attacker;
#[cfg(test)]
mod ca;
#[cfg(test)]
mod common;
#[cfg(test)]
mod forge;
#[cfg(test)]
mod identity_file;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod token;
