//! How the parts are put together: stores, engine, the models of others, and the server around them.

mod engines;
mod grpc;
mod paid;
mod served_memory;
mod server;
mod stores;

pub(crate) use self::{
    engines::{engine, known_engine, mock_engine, serving_engine},
    grpc::Grpc,
    paid::{fleet, judge, teacher, teacher_on},
    served_memory::ServedMemory,
    server::{Access, Listening, Server, Serving, runtime},
    stores::Stores,
};
