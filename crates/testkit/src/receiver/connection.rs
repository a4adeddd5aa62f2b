//! Connections that a handler can close at any time, without an answer, which an HTTP server does not allow by itself.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Accepts connections, and gives the handlers of each connection a [`ConnectionHandle`].
pub(super) struct ConnectionListener<F> {
    listener: TcpListener,
    close_all: CancellationToken,
    on_accept: F,
}

impl<F: FnMut() + Send + 'static> ConnectionListener<F> {
    /// `close_all` closes every connection; `on_accept` is called for each new one.
    pub(super) fn new(listener: TcpListener, close_all: CancellationToken, on_accept: F) -> Self {
        Self { listener, close_all, on_accept }
    }
}

impl<F: FnMut() + Send + 'static> Listener for ConnectionListener<F> {
    type Io = Connection;
    type Addr = ConnectionHandle;

    async fn accept(&mut self) -> (Connection, ConnectionHandle) {
        let (stream, _) = Listener::accept(&mut self.listener).await;
        (self.on_accept)();
        let close = self.close_all.child_token();
        let connection = Connection { stream, closed: Box::pin(close.clone().cancelled_owned()) };
        (connection, ConnectionHandle(close))
    }

    fn local_addr(&self) -> io::Result<ConnectionHandle> {
        self.listener.local_addr().map(|_: SocketAddr| ConnectionHandle(self.close_all.clone()))
    }
}

/// Lets a handler close the connection of its request.
#[derive(Debug, Clone)]
pub(super) struct ConnectionHandle(CancellationToken);

impl ConnectionHandle {
    /// Closes the connection. Never returns, because the client cannot receive an answer any more.
    pub(super) async fn disconnect<T>(self) -> T {
        self.0.cancel();
        match std::future::pending::<Infallible>().await {}
    }
}

impl<F: FnMut() + Send + 'static> Connected<IncomingStream<'_, ConnectionListener<F>>> for ConnectionHandle {
    fn connect_info(stream: IncomingStream<'_, ConnectionListener<F>>) -> Self {
        stream.remote_addr().clone()
    }
}

/// A socket whose reads and writes fail once its [`ConnectionHandle`] has closed it.
pub(super) struct Connection {
    stream: TcpStream,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    /// The socket, or an error if the connection was closed. Closing wakes the task.
    fn stream(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.closed.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream(context)?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}
