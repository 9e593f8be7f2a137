//! The lab's kube-scheduler.

use lastgood_lab::election::component;

#[tokio::main(worker_threads = 2)]
async fn main() {
    std::process::exit(component::main(&component::SCHEDULER, std::env::args().skip(1)).await);
}
