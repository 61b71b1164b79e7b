//! `memory.toml`: for whom memories are kept, what may be named in them, and by which numbers.

use serde::Deserialize;

use crate::{Catalogue, MemoryError, Settings, TenantId};

/// What an operator writes down once.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    pub tenant: TenantId,
    pub catalogue: Catalogue,
    pub settings: Settings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// There is no default: lessons of an unnamed tenant would be anybody's.
    tenant: String,
    #[serde(default)]
    catalogue: Catalogue,
    #[serde(default)]
    settings: Settings,
}

impl Deployment {
    pub const FILE: &'static str = "memory.toml";

    pub fn parse(text: &str) -> Result<Self, MemoryError> {
        let file: File =
            toml::from_str(text).map_err(|why| MemoryError::Catalogue { why: why.to_string() })?;
        file.catalogue.check()?;
        file.settings.check()?;
        let tenant = file.tenant.parse()?;
        Ok(Self { tenant, catalogue: file.catalogue, settings: file.settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
tenant = "acme"

[settings.counters]
control_share = 0.1

[catalogue]
agents = ["desk"]

[[catalogue.tools]]
name = "orders.find"
access = "read"
arguments = [{ name = "number", required = true }]

[[catalogue.intents]]
name = "refund-order"
description = "give money back"
"#;

    #[test]
    fn a_file_names_its_tenant_and_nothing_unknown() {
        let deployment = Deployment::parse(TEXT).unwrap();
        assert_eq!(deployment.tenant.as_str(), "acme");
        assert!((deployment.settings.counters.control_share - 0.1).abs() < 1e-12);
        assert_eq!(deployment.catalogue.tools[0].name, "orders.find");
        for (from, to) in [
            ("tenant = \"acme\"", ""),
            ("acme", "*"),
            ("control_share = 0.1", "control_share = 2"),
            ("control_share", "controll_share"),
            ("orders.find", "Ada's orders"),
        ] {
            assert!(Deployment::parse(&TEXT.replace(from, to)).is_err(), "{from} -> {to}");
        }
    }
}
