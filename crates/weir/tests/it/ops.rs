//! Operations, as whoever runs the service meets them: real processes, a real database and a real chain.

mod adopt;
mod browsers;
mod doctor;
mod logs;
mod market;
mod metrics;
mod process;
mod rolling;
mod shutdown;
mod webhooks;
