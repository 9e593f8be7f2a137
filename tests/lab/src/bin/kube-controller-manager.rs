//! The lab's kube-controller-manager.

use lastgood_lab::election::component;

#[tokio::main(worker_threads = 2)]
async fn main() {
    std::process::exit(component::main(&component::CONTROLLER_MANAGER, std::env::args().skip(1)).await);
}
