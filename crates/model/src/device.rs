//! Where tensors live. The only place that knows which devices this build has.

use candle_core::Device;

use crate::{
    error::{Result, refuse},
    linear::Precision,
    ops::Ops,
};

/// Where frozen weights are held, in which form, and who multiplies by them.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) device: Device,
    pub(crate) ops: Ops,
    /// What is really done, which may differ from what was asked for.
    pub(crate) precision: Precision,
}

impl Place {
    pub(crate) fn new(device: &Device, asked: Precision) -> Self {
        let (ops, precision) = (Ops::for_device(device), asked.supported(device));
        Self { device: device.clone(), ops, precision }
    }

    /// The processor, by the operations that accelerators run.
    #[cfg(test)]
    pub(crate) fn portable(precision: Precision) -> Self {
        Self { device: Device::Cpu, ops: Ops::Portable, precision }
    }
}

/// The device a name means: `cpu`, `cuda` or `cuda:N`.
pub fn device(name: &str) -> Result<Device> {
    match name.split_once(':').unwrap_or((name, "0")) {
        ("cpu", _) => Ok(Device::Cpu),
        ("cuda", ordinal) => {
            let ordinal = ordinal
                .parse()
                .map_err(|_| refuse!(Device, "cuda:{ordinal} does not name a device number"))?;
            cuda(ordinal)
        }
        _ => Err(refuse!(Device, "{name} is unknown; use cpu, cuda or cuda:N")),
    }
}

#[cfg(feature = "cuda")]
fn cuda(ordinal: usize) -> Result<Device> {
    Ok(Device::new_cuda(ordinal)?)
}

#[cfg(not(feature = "cuda"))]
fn cuda(ordinal: usize) -> Result<Device> {
    Err(refuse!(Device, "cuda:{ordinal} was asked for, but this build has no cuda feature"))
}
