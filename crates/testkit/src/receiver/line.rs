//! Connections that can be cut in the middle of anything, which HTTP servers take pains to make impossible.

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

/// The listener: hands out [`Wire`]s, and knows the [`Line`] of each.
pub(super) struct Lines<F> {
    listener: TcpListener,
    hang_up: CancellationToken,
    note: F,
}

impl<F: FnMut() + Send + 'static> Lines<F> {
    /// All lines are cut by `hang_up`; `note` is called for each new one.
    pub(super) fn new(listener: TcpListener, hang_up: CancellationToken, note: F) -> Self {
        Self { listener, hang_up, note }
    }
}

impl<F: FnMut() + Send + 'static> Listener for Lines<F> {
    type Io = Wire;
    type Addr = Line;

    async fn accept(&mut self) -> (Wire, Line) {
        let (stream, _) = Listener::accept(&mut self.listener).await;
        (self.note)();
        let cut = self.hang_up.child_token();
        let wire = Wire { stream, cut: Box::pin(cut.clone().cancelled_owned()) };
        (wire, Line(cut))
    }

    fn local_addr(&self) -> io::Result<Line> {
        self.listener.local_addr().map(|_: SocketAddr| Line(self.hang_up.clone()))
    }
}

/// One connection, as its requests know it.
#[derive(Debug, Clone)]
pub(super) struct Line(CancellationToken);

impl Line {
    /// Cuts the connection that asks, which therefore has no answer.
    pub(super) async fn cut<T>(self) -> T {
        self.0.cancel();
        match std::future::pending::<Infallible>().await {}
    }
}

impl<F: FnMut() + Send + 'static> Connected<IncomingStream<'_, Lines<F>>> for Line {
    fn connect_info(stream: IncomingStream<'_, Lines<F>>) -> Self {
        stream.remote_addr().clone()
    }
}

/// One connection, as HTTP knows it: a socket that fails once its line is cut.
pub(super) struct Wire {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Wire {
    /// The socket, unless the line is cut. Wakes the task when that happens.
    fn stream(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(Pin::new(&mut self.stream)),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
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
