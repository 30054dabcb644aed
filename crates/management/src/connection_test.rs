//! `ConnectionTestService`: tries the link step by step. How it is tried is the link's business; management does not
//! know the link, so it is given a function.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onduty_api::errors::with_reason;
use onduty_api::heartbeat::TestStep;
use onduty_api::wire::heartbeat::v1::connection_test_service_server::ConnectionTestService;
use onduty_api::wire::heartbeat::v1::{TestRequest, TestResponse};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::stream::{Answers, answers};

/// Steps on their way to one caller; one address has eleven. When the caller reads slowly the test waits.
const STEPS: usize = 16;
/// No test takes longer than this.
const LONGEST_TEST: Duration = Duration::from_secs(60);

/// The node has no address to dial.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NoAddress(pub String);

type Begin = dyn Fn() -> Result<mpsc::Receiver<TestStep>, NoAddress> + Send + Sync;

/// Begins a test, which sends each step as it ends; dropping the receiver ends it.
#[derive(Clone)]
pub struct ConnectionTest(Arc<Begin>);

impl ConnectionTest {
    /// A test by this function.
    pub fn new(
        begin: impl Fn() -> Result<mpsc::Receiver<TestStep>, NoAddress> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(begin))
    }
}

impl fmt::Debug for ConnectionTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionTest")
    }
}

/// The service.
#[derive(Debug)]
pub(crate) struct TestService {
    pub(crate) test: ConnectionTest,
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl ConnectionTestService for TestService {
    type TestStream = Answers<TestResponse>;

    async fn test(&self, _request: Request<TestRequest>) -> Result<Response<Self::TestStream>, Status> {
        let mut steps = (self.test.0)()
            .map_err(|no| with_reason(Code::FailedPrecondition, "NO_ADDRESS", no.to_string()))?;
        let (caller, last_word, stream) = answers(STEPS);
        let stop = self.stop.clone();
        let _detached = tokio::spawn(async move {
            let forward = async {
                while let Some(step) = steps.recv().await {
                    if caller.send(Ok(step.into())).await.is_err() {
                        return;
                    }
                }
            };
            // When the caller leaves, the node stops or the time is over, the test is dropped where it stands.
            tokio::select! {
                () = forward => {}
                () = caller.closed() => {}
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LONGEST_TEST) => {
                    last_word.say(Status::deadline_exceeded("the test took longer than a minute"));
                }
            }
        });
        Ok(Response::new(stream))
    }
}
