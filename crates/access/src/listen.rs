//! Where a server may listen.

use std::net::SocketAddr;

use crate::{AccessError, Keyring};

/// Without a key only the machine itself is answered; anywhere else a key is needed first.
pub fn may_listen(address: SocketAddr, keys: &Keyring) -> Result<(), AccessError> {
    if address.ip().is_loopback() || keys.active() > 0 {
        Ok(())
    } else {
        Err(AccessError::NoKeys { address })
    }
}
