//! `tranche run`: wires the components, serves their routes, and ends when the first of them fails.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::Router;
use clap::{Args, ValueEnum};
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cli::preflight;
use crate::clock::Clock;
use crate::controller::probes::Probes;
use crate::controller::{self, Context};
use crate::gateway::auth::DeviceUris;
use crate::gateway::enrol::EnrolConfig;
use crate::gateway::{self, Gateway, GatewayConfig};
use crate::manage::door::SECRET_VARIABLE;
use crate::manage::rest::Rest;
use crate::manage::{self, AuthMode, Hooks, Jwks, PolicyCache, Receivers, Webhook, WebhookAuth, WebhookMetrics};
use crate::metrics::Metrics;
use crate::oci::{AddressRules, Registries};
use crate::ops::{self, Readiness};
use crate::probe::{Guard, Jobs, Names, Network};
use crate::record::Recorder;
use crate::resolver::Resolver;
use crate::server::source::TrustedProxies;
use crate::server::{self, ServerConfig, with_problems};
use crate::shutdown::Shutdown;
use crate::telemetry::{self, LogFormat};

/// A part of Tranche that can run by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Component {
    /// Advances rollouts.
    Controller,
    /// Tells devices what to run and takes in what they report.
    Gateway,
    /// Takes in registry webhooks, and serves the management REST API.
    Api,
}

/// Run the controller, the device gateway and the API, or some of them
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Which components [default: all]
    #[arg(value_enum, env = "TRANCHE_COMPONENTS", value_delimiter = ',')]
    pub components: Vec<Component>,
    /// Namespace of policies, rollouts and devices [default: the kubeconfig's or the pod's]
    #[arg(long, env = "TRANCHE_NAMESPACE")]
    pub namespace: Option<String>,
    /// Where devices and registries connect
    #[arg(long, env = "TRANCHE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz and /metrics are
    #[arg(long, env = "TRANCHE_OPS_LISTEN", default_value = "127.0.0.1:9090", value_name = "ADDRESS")]
    pub ops_listen: SocketAddr,
    /// Certificate chain to serve TLS with, PEM
    #[arg(long, env = "TRANCHE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, env = "TRANCHE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Certificate authorities, PEM: a device may show one of their certificates instead of a key
    #[arg(long, env = "TRANCHE_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// What the URI on a device's certificate begins with, up to the device's UUID, by commas
    #[arg(
        long,
        env = "TRANCHE_CLIENT_URI_PREFIX",
        value_delimiter = ',',
        value_parser = gateway::auth::uri_prefix,
        default_value = gateway::auth::URN,
        value_name = "PREFIX"
    )]
    pub client_uri_prefix: Vec<String>,
    /// Devices don't enrol by themselves, and don't change their keys
    #[arg(long, env = "TRANCHE_NO_ENROLMENT")]
    pub no_enrolment: bool,
    /// How long a device's previous key counts after it has changed its key
    #[arg(long, env = "TRANCHE_KEY_OVERLAP", default_value = "1h", value_parser = whole_duration, value_name = "DURATION")]
    pub key_overlap: Duration,
    /// `secret`: deliveries must know DOCKER_WEBHOOK_SECRET. `none`: everybody may deliver, on loopback only
    #[arg(long, env = "TRANCHE_WEBHOOK_AUTH", default_value_t = AuthMode::Secret, value_name = "MODE")]
    pub webhook_auth: AuthMode,
    /// Addresses at which registries may be asked although they are loopback, link-local or a cloud's metadata service,
    /// such as `127.0.0.0/8`, by commas
    #[arg(long, env = "TRANCHE_REGISTRY_ALLOW_ADDRESSES", default_value_t = AddressRules::default(), value_name = "CIDRS")]
    pub registry_allow_addresses: AddressRules,
    /// Networks that health checks of devices may reach besides the device's own reported address, by commas
    #[arg(long, env = "TRANCHE_CHECK_NETWORKS", value_delimiter = ',', value_parser = server::source::network, value_name = "CIDR")]
    pub check_networks: Vec<ipnet::IpNet>,
    /// Addresses that health checks may reach although they are loopback, link-local or a cloud's metadata service, by
    /// commas
    #[arg(long, env = "TRANCHE_CHECK_ALLOW_ADDRESSES", default_value_t = AddressRules::default(), value_name = "CIDRS")]
    pub check_allow_addresses: AddressRules,
    /// Networks of proxies whose X-Forwarded-For (or Forwarded) says who delivers or enrols, for limits by source [default: none]
    #[arg(
        long,
        env = "TRANCHE_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = server::source::network,
        value_name = "CIDR"
    )]
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// How often gateways write down which devices they saw [default: by size of the fleet, 5s to 60s]
    #[arg(long, env = "TRANCHE_PRESENCE_INTERVAL", value_parser = whole_duration, value_name = "DURATION")]
    pub presence_interval: Option<Duration>,
    /// Form of the log
    #[arg(long, env = "TRANCHE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// A duration of at least a second, as people write it.
pub(crate) fn whole_duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text.parse().map_err(|error| format!("{error}, such as 30s or 5m"))?;
    if parsed.is_negative() || Duration::from(parsed) < Duration::from_secs(1) {
        return Err("must be at least 1s".into());
    }
    Ok(parsed.into())
}

/// Runs until SIGTERM or Ctrl-C, or until a component fails.
///
/// # Errors
/// When something can't be started, or a component ended by itself; the text says which and why.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let RunArgs {
        components,
        namespace,
        listen,
        ops_listen,
        tls_cert,
        tls_key,
        client_ca,
        client_uri_prefix,
        no_enrolment,
        key_overlap,
        webhook_auth,
        registry_allow_addresses,
        check_networks,
        check_allow_addresses,
        trusted_proxies,
        presence_interval,
        log_format,
    } = args;
    telemetry::init(log_format, "info,kube_runtime=warn,kube_client=error");
    let wants = |component| components.is_empty() || components.contains(&component);
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("installing signal handlers")?;

    let tls = match (tls_cert, tls_key) {
        (Some(certificate), Some(key)) => Some(server::tls::acceptor(&certificate, &key, client_ca.as_deref())?),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => bail!("--tls-cert and --tls-key go together"),
    };
    let listener = bind(listen, "--listen").await?;
    let ops_listener = bind(ops_listen, "--ops-listen").await?;
    let (client, default_namespace) = crate::kubeclient::connect().await?;
    let namespace = namespace.unwrap_or(default_namespace);
    preflight::wait_for_kinds(&client, &namespace, &shutdown).await?;
    if shutdown.is_requested() {
        return Ok(());
    }

    let proxies = TrustedProxies::new(trusted_proxies);
    // Requested once the last request is answered.
    let drained = Shutdown::new();
    let metrics = Arc::new(Metrics::new());
    let registries = Registries::new(registry_allow_addresses, Clock::default());
    let mut parts = Parts { tasks: JoinSet::new(), routes: Router::new(), readiness: Vec::new() };
    if wants(Component::Controller) {
        let guard = Guard::new(check_allow_addresses, Names::system());
        let network = Network { guard, jobs: Some(Jobs::new(client.clone())) };
        let probes = Probes::new(network, check_networks);
        parts.controller(&client, &namespace, registries.clone(), probes, &metrics, &shutdown);
    }
    if wants(Component::Gateway) {
        let overlap = key_overlap.try_into().context("--key-overlap")?;
        let enrol = EnrolConfig { enabled: !no_enrolment, overlap, proxies: proxies.clone() };
        let device_uris = DeviceUris::new(client_uri_prefix);
        let config = GatewayConfig { presence_interval, enrol, device_uris, ..GatewayConfig::new(&namespace) };
        parts.gateway(&client, config, &metrics, &shutdown);
    }
    if wants(Component::Api) {
        let auth = WebhookAuth::new(webhook_auth, std::env::var(SECRET_VARIABLE).ok().as_deref());
        auth.check_listen(listener.local_addr().context("asking for the address")?)?;
        if let Some(warning) = auth.warning() {
            tracing::warn!("{warning}");
        }
        let nobody = crate::kubeclient::connect_as_nobody().await?;
        let rest = Rest::new(nobody, &namespace, Clock::default(), proxies.clone(), shutdown.clone());
        parts.routes = std::mem::take(&mut parts.routes).merge(manage::rest::router(rest));
        let door = Door { auth, proxies, registries };
        parts.api(&client, &namespace, door, &metrics, &shutdown, &drained);
    }
    let Parts { mut tasks, mut routes, readiness } = parts;
    if wants(Component::Api) && !wants(Component::Gateway) {
        // Whoever asks whether somebody is there need not know who.
        routes = routes.route("/health", axum::routing::get(gateway::logs::health));
    }

    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!(namespace, "listening on {scheme}://{}", listener.local_addr()?);
    tracing::info!("ops on http://{}", ops_listener.local_addr()?);
    let http = metrics.server.clone();
    let server =
        server::serve(listener, with_problems(routes), tls, ServerConfig::default(), http, shutdown.clone().wait());
    tasks.spawn(named("server", async move {
        server.await;
        drained.request();
    }));
    let ops_routes = with_problems(ops::router(readiness, Arc::clone(&metrics)));
    // Its connections are not the fleet's, so they are not counted among them.
    let ops_server = server::serve(
        ops_listener,
        ops_routes,
        None,
        ServerConfig { max_connections: 64, ..ServerConfig::default() },
        Default::default(),
        shutdown.clone().wait(),
    );
    tasks.spawn(named("ops server", ops_server));
    supervise(tasks, &shutdown).await
}

type Ended = (&'static str, anyhow::Result<()>);

async fn named(name: &'static str, task: impl Future<Output = ()>) -> Ended {
    task.await;
    (name, Ok(()))
}

/// Components as they are put together.
struct Parts {
    tasks: JoinSet<Ended>,
    routes: Router,
    readiness: Vec<Readiness>,
}

impl Parts {
    fn controller(
        &mut self,
        client: &Client,
        namespace: &str,
        registries: Registries,
        probes: Probes,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) {
        let counters = controller::metrics::ControllerMetrics::default();
        metrics.register(|registry| counters.register(registry));
        let namespace = Some(namespace.to_owned());
        let context = Context::new(client.clone(), namespace, counters, Clock::default(), registries, probes);
        let index = Arc::clone(&context);
        self.readiness.push(Readiness::new("controller", move || {
            if index.devices.is_complete() { Ok(()) } else { Err("the devices have not been listed yet".into()) }
        }));
        let shutdown = shutdown.clone();
        self.tasks.spawn(async move {
            let result = controller::run(context, shutdown).await;
            ("controller", result.map_err(anyhow::Error::from))
        });
    }

    fn gateway(&mut self, client: &Client, config: GatewayConfig, metrics: &Arc<Metrics>, shutdown: &Shutdown) {
        let (gateway, task) = Gateway::start(client.clone(), config, Arc::clone(metrics), shutdown.clone().wait());
        let state = Arc::clone(&gateway);
        self.readiness.push(Readiness::new("gateway", move || state.is_ready().map_err(Into::into)));
        self.routes = std::mem::take(&mut self.routes).merge(gateway::router(gateway));
        self.tasks.spawn(async move { ("gateway", task.await.map_err(anyhow::Error::from)) });
    }

    fn api(
        &mut self,
        client: &Client,
        namespace: &str,
        door: Door,
        metrics: &Metrics,
        shutdown: &Shutdown,
        drained: &Shutdown,
    ) {
        let (cache, task) = PolicyCache::start(client.clone(), Some(namespace), shutdown.clone());
        let receivers = Receivers::new(client.clone(), namespace);
        let keep = receivers.clone().keep(shutdown.clone(), drained.clone());
        let counters = WebhookMetrics::default();
        metrics.register(|registry| counters.register(registry));
        let (policies, hooks) = (cache.clone(), receivers.clone());
        self.readiness.push(Readiness::new("api", move || {
            if !policies.is_ready() {
                return Err("the policies have not been listed yet".into());
            }
            if hooks.is_ready() { Ok(()) } else { Err("the registry webhooks have not been read yet".into()) }
        }));
        let Door { auth, proxies, registries } = door;
        let hooks = Hooks { receivers, jwks: Jwks::new(registries.clone()) };
        let recorder = Recorder::new(client.clone(), Resolver::new(client.clone(), registries));
        let webhook = Webhook::with(auth, cache, recorder, counters, Some(hooks), proxies);
        self.routes = std::mem::take(&mut self.routes).merge(manage::router(webhook));
        self.tasks.spawn(async move { ("api", task.await.map_err(anyhow::Error::from)) });
        self.tasks.spawn(named("receivers", keep));
    }
}

/// How registries are let in.
struct Door {
    auth: WebhookAuth,
    proxies: TrustedProxies,
    registries: Registries,
}

/// Waits for the end. Whatever ends before it was asked to takes the rest with it: half a Tranche helps nobody.
async fn supervise(mut tasks: JoinSet<Ended>, shutdown: &Shutdown) -> anyhow::Result<()> {
    let mut failure = None;
    while let Some(ended) = tasks.join_next().await {
        let asked = shutdown.is_requested();
        let (name, result) = ended.context("a component panicked")?;
        let result = match result {
            Ok(()) if asked => Ok(()),
            Ok(()) => Err(anyhow::anyhow!("it ended without being asked to")),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::error!(component = name, error = format!("{error:#}"), "a component failed; stopping");
            failure.get_or_insert(error.context(format!("{name} failed")));
            shutdown.request();
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}; is something else there? {flag} chooses another address"))
}
