//! A session with one client: negotiate, initialize once, then outputs and builds as often as wanted.
//!
//! No two calls are answered at the same time.

use serde_json::{Map, Value, json};

use crate::build;
use crate::call_log::CallLog;
use crate::configuration::Configuration;
use crate::failing::{self, Kind, Step};
use crate::json::Reader;
use crate::outputs;
use crate::project::{self, Place, Project};
use crate::protocol::{Answer, RpcError};

#[derive(Debug)]
pub(crate) struct Session {
    /// What counts where the client says nothing.
    defaults: Map<String, Value>,
    configuration: Configuration,
    project: Option<Project>,
    log: CallLog,
}

impl Session {
    pub(crate) fn new(defaults: Map<String, Value>, log: CallLog) -> Result<Self, RpcError> {
        Ok(Self { configuration: Configuration::read(&defaults)?, defaults, project: None, log })
    }

    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Answer {
        let answer = match method {
            "negotiateCapabilities" => self.negotiate(params),
            "initialize" => self.initialize(params),
            "conda/outputs" => self.outputs(params),
            "conda/build_v1" => self.build(params),
            _ => Err(RpcError::method_not_found(method)),
        };
        answer.unwrap_or_else(|error| Answer::Reply(Err(error)))
    }

    fn negotiate(&mut self, params: &Value) -> Result<Answer, RpcError> {
        self.record("negotiate")?;
        Reader::new(params, "params")?.reader("capabilities")?;
        if let Some(answer) = failing::interfere(&self.configuration, Step::Negotiate, None) {
            return Ok(answer);
        }
        let failure = self.configuration.failure.as_ref();
        let lacks_outputs = failure.is_some_and(|failure| failure.is(Kind::NotACapability, Step::Negotiate, None));
        let capabilities = json!({ "providesCondaOutputs": !lacks_outputs, "providesCondaBuildV1": true });
        Ok(Answer::Reply(Ok(json!({ "capabilities": capabilities }))))
    }

    fn initialize(&mut self, params: &Value) -> Result<Answer, RpcError> {
        let params = Reader::new(params, "params")?;
        let place = Place::read(&params)?;
        let mut merged = self.defaults.clone();
        for (key, value) in params.reader("configuration")?.entries() {
            merged.insert(key.clone(), value.clone());
        }
        let configuration = Configuration::read(&merged)?;
        if self.project.is_none() {
            let path = configuration.log.as_ref().map(|log| place.source.join(log));
            self.log.configure(path).map_err(log_error)?;
        }
        self.record(&format!("initialize {}", project::project_name(&params, &configuration, &place)?))?;
        if self.project.is_some() {
            return Err(RpcError::invalid_request("this session is initialized already"));
        }
        if let Some(answer) = failing::interfere(&configuration, Step::Initialize, Some(&place)) {
            return Ok(answer);
        }
        self.project = Some(Project::read(place, &params, &configuration)?);
        self.configuration = configuration;
        Ok(Answer::Reply(Ok(json!({}))))
    }

    fn outputs(&mut self, params: &Value) -> Result<Answer, RpcError> {
        let project = self.project.as_ref().ok_or_else(not_initialized)?;
        self.log.record(&format!("outputs {}", project.name)).map_err(log_error)?;
        for ignored in &project.ignored {
            failing::say(&format!("doge-test-backend ignores the {ignored}"));
        }
        if let Some(answer) = failing::interfere(&self.configuration, Step::Outputs, Some(&project.place)) {
            return Ok(answer);
        }
        let params = Reader::new(params, "params")?;
        outputs::outputs(project, &self.configuration, &params).map(|result| Answer::Reply(Ok(result)))
    }

    fn build(&mut self, params: &Value) -> Result<Answer, RpcError> {
        let project = self.project.as_ref().ok_or_else(not_initialized)?;
        let params = Reader::new(params, "params")?;
        let name = params.reader("output")?.string("name")?.unwrap_or("?");
        let line = format!("build {name}{}", build::logged_variant(&params)?);
        self.log.record(&line).map_err(log_error)?;
        if let Some(answer) = failing::interfere(&self.configuration, Step::Build, Some(&project.place)) {
            return Ok(answer);
        }
        build::build(project, &self.configuration, &params).map(|result| Answer::Reply(Ok(result)))
    }

    fn record(&mut self, line: &str) -> Result<(), RpcError> {
        self.log.record(line).map_err(log_error)
    }
}

fn not_initialized() -> RpcError {
    RpcError::invalid_request("this session is not initialized")
}

fn log_error(error: std::io::Error) -> RpcError {
    RpcError::internal(error.to_string())
}
