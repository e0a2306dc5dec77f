//! The wire between the engine's real RPC client and the simulated node.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use alloy::{
    rpc::{
        client::RpcClient,
        json_rpc::{
            ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload,
            SerializedRequest,
        },
    },
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use chain::ReadClient;
use serde_json::{Value, json, value::to_raw_value};
use store::seam;

use super::{
    chain::Chain,
    node::{self, Answer},
};

/// Requests of one owner to the node.
#[derive(Clone)]
pub struct Wire {
    pub chain: Arc<Mutex<Chain>>,
    /// An honest node answers whatever it is asked, at once and truly.
    pub honest: bool,
}

impl Wire {
    /// The client that the engine uses, over this wire.
    pub fn client(self) -> ReadClient {
        ReadClient::over(RpcClient::new(self, true))
    }

    async fn serve(self, request: SerializedRequest) -> Result<Response, TransportError> {
        let method = request.method().to_owned();
        seam::at(&format!("before {method}")).await;
        let params: Value = request
            .params()
            .map_or(Value::Null, |params| serde_json::from_str(params.get()).unwrap());
        let answer = {
            let mut chain = self.chain.lock().unwrap();
            if self.honest {
                let faults = std::mem::replace(&mut chain.faults, super::faults::Faults::none());
                let answer = node::answer(&mut chain, &method, &params);
                chain.faults = faults;
                answer
            } else {
                node::answer(&mut chain, &method, &params)
            }
        };
        seam::at(&format!("after {method}")).await;
        let payload = match answer {
            Answer::Result(value) => ResponsePayload::Success(to_raw_value(&value).unwrap()),
            Answer::Failure(failure) => ResponsePayload::Failure(ErrorPayload {
                code: failure.code,
                message: failure.message.into(),
                data: failure.data.map(|data| to_raw_value(&json!(data)).unwrap()),
            }),
            Answer::Silence => return Err(TransportErrorKind::custom_str("operation timed out")),
        };
        Ok(Response { id: request.id().clone(), payload })
    }
}

impl tower::Service<RequestPacket> for Wire {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move {
            Ok(match packet {
                RequestPacket::Single(request) => {
                    ResponsePacket::Single(wire.serve(request).await?)
                }
                RequestPacket::Batch(requests) => {
                    let mut answers = Vec::with_capacity(requests.len());
                    for request in requests {
                        answers.push(wire.clone().serve(request).await?);
                    }
                    ResponsePacket::Batch(answers)
                }
            })
        })
    }
}
