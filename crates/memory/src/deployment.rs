//! `memory.toml`: for whom memories are kept, what may be named in them, and by which numbers.

use serde::Deserialize;

use understudy_ident::TaskName;
use understudy_manifest::Release;

use crate::{Catalogue, MemoryError, Settings, TenantId};

/// What an operator writes down once.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    pub tenant: TenantId,
    pub catalogue: Catalogue,
    pub settings: Settings,
    /// The canary of its releases, as in a recipe.
    pub release: Release,
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
    #[serde(default)]
    release: Release,
}

impl Deployment {
    pub const FILE: &'static str = "memory.toml";

    pub fn parse(text: &str) -> Result<Self, MemoryError> {
        let file: File =
            toml::from_str(text).map_err(|why| MemoryError::Catalogue { why: why.to_string() })?;
        file.catalogue.check()?;
        file.settings.check()?;
        let tenant: TenantId = file.tenant.parse()?;
        Self::channel_of(&tenant)?;
        let File { catalogue, settings, release, .. } = file;
        Ok(Self { tenant, catalogue, settings, release })
    }

    /// What the registry calls this memory: `memory-acme`, of which `memory-acme@3` is a release.
    pub fn channel(&self) -> TaskName {
        Self::channel_of(&self.tenant).expect("a parsed file has a tenant that fits")
    }

    fn channel_of(tenant: &TenantId) -> Result<TaskName, MemoryError> {
        let wrong = |_| MemoryError::Tenant { text: tenant.to_string() };
        format!("memory-{tenant}").parse().map_err(wrong)
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
