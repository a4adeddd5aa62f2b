//! Chooses the behaviour of each request when its connection is accepted: one connection carries one request.

use std::{io, sync::Arc};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::net::{TcpListener, TcpStream};

use super::{Behaviour, Shared};

/// Accepts connections and chooses the behaviour of each; closes those that are planned to be closed.
pub(super) struct PlannedListener {
    pub(super) listener: TcpListener,
    pub(super) shared: Arc<Shared>,
}

impl Listener for PlannedListener {
    type Io = TcpStream;
    type Addr = Behaviour;

    async fn accept(&mut self) -> (TcpStream, Behaviour) {
        loop {
            let (stream, _) = Listener::accept(&mut self.listener).await;
            self.shared.state().requests += 1;
            let behaviour = self.shared.plan.choose(&());
            if behaviour != Behaviour::Disconnect {
                return (stream, behaviour);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Behaviour> {
        Ok(Behaviour::Normal)
    }
}

/// Passes the behaviour to the handler in place of the peer's address.
impl Connected<IncomingStream<'_, PlannedListener>> for Behaviour {
    fn connect_info(stream: IncomingStream<'_, PlannedListener>) -> Self {
        stream.remote_addr().clone()
    }
}
