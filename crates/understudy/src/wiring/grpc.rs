//! Where OTLP over gRPC is taken, and whether.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use anyhow::{Context, Result};
use understudy_gateway::Gateway;

/// Where OTLP over gRPC is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grpc {
    Off,
    At(SocketAddr),
    /// At the port that exporters try by themselves, unless another collector has it.
    IfFree,
}

impl FromStr for Grpc {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse().map_err(|_| {
            format!("`{text}` is neither an address such as 127.0.0.1:4317 nor `off`")
        })?;
        Ok(Self::At(address))
    }
}

impl Grpc {
    const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4317);

    async fn bind(self) -> Result<Option<tokio::net::TcpListener>> {
        match self {
            Self::Off => Ok(None),
            Self::At(address) => tokio::net::TcpListener::bind(address)
                .await
                .map(Some)
                .with_context(|| format!("failed to listen on {address} for OTLP over gRPC")),
            Self::IfFree => match tokio::net::TcpListener::bind(Self::USUAL).await {
                Ok(listener) => Ok(Some(listener)),
                Err(why) => {
                    tracing::warn!("OTLP over gRPC is not taken at {}: {why}", Self::USUAL);
                    Ok(None)
                }
            },
        }
    }
}

/// Takes telemetry over gRPC, where that is wanted; returns where.
pub(super) fn take_grpc(
    runtime: &tokio::runtime::Runtime,
    grpc: Grpc,
    gateway: &Gateway,
) -> Result<Option<SocketAddr>> {
    let Some(listener) = runtime.block_on(grpc.bind())? else { return Ok(None) };
    let address = listener.local_addr().ok();
    // It ends with the runtime: what it has not acknowledged is sent again.
    let taking = gateway.clone();
    runtime.spawn(understudy_gateway::serve_grpc(listener, taking, std::future::pending()));
    Ok(address)
}
