//! The permission to say something about one reply, for whoever was shown it.
//!
//! A token is the time it ends, in seconds since 1970 and hexadecimal, a dot, and a keyed BLAKE3
//! hash over that time and the reply's id. Who does not have the key cannot make one for another
//! reply, and nobody has to store it. A tenant's name follows after another dot and is hashed too.

use std::fmt;

use understudy_ident::{TenantName, Timestamp};

const CONTEXT: &str = "understudy 2026-11 feedback token v1";

const DAYS: i64 = 30;

#[derive(Clone, Copy)]
pub(crate) struct TokenKey([u8; 32]);

impl TokenKey {
    pub(crate) fn derived(secret: &[u8; 32]) -> Self {
        Self(blake3::derive_key(CONTEXT, secret))
    }

    /// For the reply with this id, given at this time.
    pub(crate) fn token(
        &self,
        tenant: Option<&TenantName>,
        response: &str,
        at: Timestamp,
    ) -> String {
        let end = at.as_second() + DAYS * 24 * 60 * 60;
        let token = format!("{end:x}.{}", self.hash(tenant, response, end).to_hex());
        match tenant {
            None => token,
            Some(tenant) => format!("{token}.{tenant}"),
        }
    }

    /// Whose reply a token says it is for. True only once the token was checked.
    pub(crate) fn tenant(token: &str) -> Option<TenantName> {
        token.split('.').nth(2).and_then(|tenant| tenant.parse().ok())
    }

    pub(crate) fn check(
        &self,
        token: &str,
        response: &str,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        const WRONG: &str = "the token is not one for this response";
        let tenant = Self::tenant(token);
        let (end, rest) = token.split_once('.').ok_or(WRONG)?;
        let hash = match &tenant {
            None => rest,
            Some(tenant) => rest
                .strip_suffix(tenant.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .ok_or(WRONG)?,
        };
        let end = i64::from_str_radix(end, 16).map_err(|_| WRONG)?;
        let hash = blake3::Hash::from_hex(hash).map_err(|_| WRONG)?;
        // Hashes compare in a time that tells nothing.
        if hash != self.hash(tenant.as_ref(), response, end) {
            return Err(WRONG);
        }
        if now.as_second() > end { Err("the token has ended") } else { Ok(()) }
    }

    /// The same for everybody with this key, and no help in finding it.
    pub(crate) fn public_name(&self) -> String {
        blake3::keyed_hash(&self.0, b"name").to_hex()[..16].to_owned()
    }

    fn hash(&self, tenant: Option<&TenantName>, response: &str, end: i64) -> blake3::Hash {
        let mut said = [&end.to_le_bytes(), response.as_bytes()].concat();
        // No id of a reply holds a zero, so that what follows one can only be a tenant.
        said.extend(tenant.iter().flat_map(|tenant| [&[0], tenant.as_str().as_bytes()].concat()));
        blake3::keyed_hash(&self.0, &said)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}
