//! The lab's kube-apiserver.

#[tokio::main(worker_threads = 2)]
async fn main() {
    std::process::exit(lastgood_lab::apiserver::main(std::env::args().skip(1)).await);
}
