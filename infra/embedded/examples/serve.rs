//! x
#[tokio::main]
async fn main() {
    let cluster = embedded::s3::Cluster::start(embedded::s3::ClusterOptions {
        listen: "127.0.0.1:9555".parse().unwrap(),
        data_dir: std::env::args().nth(1).unwrap().into(),
        region: "us-east-1".into(),
        admin_token: "t".into(),
        now: std::sync::Arc::new(jiff::Timestamp::now),
        ephemeral: false,
    })
    .unwrap();
    println!("{}", cluster.endpoint());
    tokio::signal::ctrl_c().await.unwrap();
}
