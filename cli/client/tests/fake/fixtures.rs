//! Things that are the same in every answer.

use minder_proto::v1;

pub fn member() -> v1::ManagerMember {
    v1::ManagerMember { id: 1, peer_address: "p:1".into(), client_address: "c:1".into() }
}

pub fn host() -> v1::Host {
    v1::Host {
        name: "h1".into(),
        address: "10.0.0.1:8888".into(),
        condition: v1::HostCondition::Connected.into(),
        labels: [("zone".to_string(), "a".to_string())].into(),
        instances_wanted: 2,
        instances_running: 1,
        facts: Some(v1::MachineFacts {
            cores: 4,
            cpu_model: "Fast".into(),
            memory_bytes: 8 << 30,
            os: "Debian".into(),
            kernel: "6.1".into(),
            architecture: "x86_64".into(),
            slave_version: "0.1.0".into(),
            supervision: v1::SupervisionLevel::Cgroup.into(),
            limits: vec![
                v1::LimitSupport { resource: "memory".into(), missing: String::new() },
                v1::LimitSupport { resource: "cpu".into(), missing: "no cpu controller on this host".into() },
            ],
            ..Default::default()
        }),
        usage: Some(v1::MachineUsage {
            uptime_seconds: 7_200,
            cpu_permille: 125,
            load_permille: vec![500, 250, 100],
            memory_used_bytes: 3 << 30,
            memory_available_bytes: 5 << 30,
            disks: vec![v1::Disk {
                mount_point: "/".into(),
                device: "/dev/vda1".into(),
                file_system: "ext4".into(),
                total_bytes: 100 << 30,
                available_bytes: 40 << 30,
                total_inodes: 1_000,
                free_inodes: 900,
            }],
            ..Default::default()
        }),
        usage_age_ms: Some(400),
        registered: true,
        ..Default::default()
    }
}
