//! How calls are made: deadlines, retries, request ids.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;

use crate::client::Client;
use crate::connection::RetryPolicy;
use crate::error::{Code, Error, Result};

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// No server makes a client wait longer than this before a retry.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);

/// A request of a call with one response. Implemented by the requests of the contract.
pub trait Rpc: Clone + Send + Sync + 'static {
    /// What the call returns.
    type Output: Send;
    #[doc(hidden)]
    type Response: Send;
    #[doc(hidden)]
    fn send(
        request: tonic::Request<Self>,
        client: &Client,
    ) -> BoxFuture<'static, std::result::Result<tonic::Response<Self::Response>, Status>>;
    #[doc(hidden)]
    fn output(response: Self::Response) -> Result<Self::Output>;
    #[doc(hidden)]
    fn check(&self) -> Result<()>;
    #[doc(hidden)]
    fn request_id(&mut self) -> Option<&mut String>;
}

/// A request of a call that changes something. It has a request id, which makes retries safe.
pub trait Mutating: Rpc {}

/// A request of a list, which comes in pages.
pub trait Paged: Rpc {
    /// An entry of the list.
    type Item: Send;
    #[doc(hidden)]
    fn page_token_mut(&mut self) -> &mut String;
    #[doc(hidden)]
    fn page_size_mut(&mut self) -> &mut i32;
    #[doc(hidden)]
    fn split(output: Self::Output) -> (Vec<Self::Item>, String);
}

/// A call that can be awaited. Its methods set options; nothing is sent before it is awaited.
/// Dropping the future cancels the call.
#[derive(Clone)]
#[must_use = "a call is made when it is awaited"]
pub struct Call<R> {
    pub(crate) client: Client,
    pub(crate) request: R,
    timeout: Option<Duration>,
}

impl<R: Rpc> Call<R> {
    pub(crate) fn new(client: &Client, request: R) -> Call<R> {
        Call { client: client.clone(), request, timeout: None }
    }

    /// Sets the deadline of the call, retries and pauses included, instead of that of
    /// [`Builder::timeout`](crate::Builder::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Call<R> {
        self.timeout = Some(timeout);
        self
    }

    async fn run(mut self) -> Result<R::Output> {
        self.request.check()?;
        if let Some(id) = self.request.request_id() {
            fill_request_id(id);
        }
        let deadline = deadline_after(self.timeout.unwrap_or(self.client.0.timeout));
        let mut attempts = Attempts::new(self.client.0.retry, deadline);
        loop {
            let request = self.client.request(self.request.clone(), deadline)?;
            let call = R::send(request, &self.client);
            match within(deadline, call).await? {
                Ok(response) => return R::output(response.into_inner()),
                Err(status) => attempts.pause_after(Error::from_status(status)).await?,
            }
        }
    }
}

impl<R: Mutating> Call<R> {
    /// Sets the id that makes retries safe: a call with the same id and the same content returns
    /// the first response and changes nothing. Default: a random id.
    pub fn request_id(mut self, id: impl Into<String>) -> Call<R> {
        if let Some(field) = self.request.request_id() {
            *field = id.into();
        }
        self
    }
}

impl<R: Paged> Call<R> {
    /// Sets the number of entries in a page.
    pub fn page_size(mut self, size: i32) -> Call<R> {
        *self.request.page_size_mut() = size;
        self
    }

    /// Sets the page: the `next_page_token` of the page before it.
    pub fn page_token(mut self, token: impl Into<String>) -> Call<R> {
        *self.request.page_token_mut() = token.into();
        self
    }

    /// Reads all pages, from this one on. The deadline is that of each page.
    pub async fn all(self) -> Result<Vec<R::Item>> {
        let mut items = Vec::new();
        let mut call = self;
        loop {
            let (mut page, next) = R::split(call.clone().await?);
            items.append(&mut page);
            if next.is_empty() {
                return Ok(items);
            }
            *call.request.page_token_mut() = next;
        }
    }
}

impl<R: Rpc> IntoFuture for Call<R> {
    type Output = Result<R::Output>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// The deadline after this time; none if it is too far away to be represented.
pub(crate) fn deadline_after(timeout: impl Into<Option<Duration>>) -> Option<Instant> {
    Instant::now().checked_add(timeout.into()?)
}

/// Waits for a future until the deadline.
pub(crate) async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Result<F::Output> {
    match deadline {
        Some(at) => timeout_at(at, future).await.map_err(|_| Error::deadline()),
        None => Ok(future.await),
    }
}

/// Draws a request id unless there is one.
pub(crate) fn fill_request_id(id: &mut String) {
    if id.is_empty() {
        *id = random_id();
    }
}

/// 128 random bits in hexadecimal.
pub(crate) fn random_id() -> String {
    format!("{:016x}{:016x}", random(), random())
}

fn random() -> u64 {
    getrandom::u64().expect("the operating system has random numbers")
}

/// Counts the attempts of a call since its last progress, and pauses between them.
pub(crate) struct Attempts {
    policy: RetryPolicy,
    deadline: Option<Instant>,
    made: u32,
    bound: Duration,
}

impl Attempts {
    pub(crate) fn new(policy: RetryPolicy, deadline: Option<Instant>) -> Attempts {
        Attempts { policy, deadline, made: 0, bound: policy.first_pause }
    }

    /// After progress the next failure counts as the first.
    pub(crate) fn reset(&mut self) {
        *self = Attempts::new(self.policy, self.deadline);
    }

    /// Pauses before the next attempt; returns the error if there is none.
    pub(crate) async fn pause_after(&mut self, error: Error) -> Result<()> {
        let pause = self.pause(&error, random()).ok_or(error)?;
        sleep(pause).await;
        Ok(())
    }

    /// How long to pause after an error; none if the call must not be repeated.
    fn pause(&mut self, error: &Error, random: u64) -> Option<Duration> {
        let may_pass = match error.code() {
            Code::Unavailable => true,
            Code::ResourceExhausted => error.retry_delay().is_some(),
            _ => false,
        };
        self.made = self.made.saturating_add(1);
        if !may_pass || self.made >= self.policy.max_attempts {
            return None;
        }
        // The whole pause is random, so that clients do not return at the same time.
        let jitter = self.bound.mul_f64(random as f64 / u64::MAX as f64);
        let pause = error.retry_delay().unwrap_or_default().min(MAX_RETRY_DELAY) + jitter;
        self.bound = (self.bound * 2).min(self.policy.last_pause.max(self.policy.first_pause));
        match self.deadline {
            Some(at) if Instant::now() + pause >= at => None,
            _ => Some(pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::google::rpc;
    use prost::Message;

    fn unavailable() -> Error {
        Error::new(Code::Unavailable, "away")
    }

    fn error_with_delay(code: Code, millis: i32) -> Error {
        let retry = rpc::RetryInfo {
            retry_delay: Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 }),
        };
        Error::from_message(rpc::Status {
            code: if code == Code::Unavailable { 14 } else { 8 },
            message: "busy".into(),
            details: vec![prost_types::Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                value: retry.encode_to_vec(),
            }],
        })
    }

    fn pauses(error: &Error, random: u64) -> Vec<u64> {
        let mut attempts = Attempts::new(RetryPolicy::default(), None);
        std::iter::from_fn(|| attempts.pause(error, random).map(|p| p.as_millis() as u64)).collect()
    }

    #[test]
    fn pauses_double_and_are_random_from_zero() {
        assert_eq!(pauses(&unavailable(), u64::MAX), [50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(pauses(&unavailable(), 0), [0; 7]);
    }

    #[test]
    fn the_server_says_how_long_to_wait() {
        let overloaded = error_with_delay(Code::Unavailable, 300);
        assert_eq!(pauses(&overloaded, 0), [300; 7]);
        assert_eq!(pauses(&error_with_delay(Code::ResourceExhausted, 20), 0), [20; 7]);
    }

    #[test]
    fn other_errors_are_not_repeated() {
        for code in [Code::ResourceExhausted, Code::Internal, Code::Aborted, Code::Unknown] {
            assert_eq!(pauses(&Error::new(code, ""), 0), [0; 0], "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_bounds_the_pauses() {
        let mut attempts =
            Attempts::new(RetryPolicy::default(), deadline_after(Duration::from_millis(120)));
        assert!(attempts.pause(&unavailable(), u64::MAX).is_some());
        assert!(attempts.pause(&unavailable(), u64::MAX).is_some());
        assert!(attempts.pause(&unavailable(), u64::MAX).is_none());
    }

    #[test]
    fn progress_starts_the_count_again() {
        let policy = RetryPolicy { max_attempts: 2, ..Default::default() };
        let mut attempts = Attempts::new(policy, None);
        for _ in 0..5 {
            assert!(attempts.pause(&unavailable(), 0).is_some());
            attempts.reset();
        }
        assert!(attempts.pause(&unavailable(), 0).is_some());
        assert!(attempts.pause(&unavailable(), 0).is_none());
    }

    #[test]
    fn ids_are_random() {
        let id = random_id();
        assert_eq!(id.len(), 32);
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(id, random_id());
    }
}
