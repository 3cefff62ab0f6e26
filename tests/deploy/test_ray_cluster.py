"""The cluster file of Ray's launcher, by Ray's own loader; its commands, by Ray's own parser."""

from __future__ import annotations

from tests.support.deploy_files import DEPLOY, GROUP_CLEANUP, check_ray_start, documents


def test_rays_loader_takes_it() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(documents(DEPLOY / "ray" / "cluster.yaml")[0])
    validate_config(config)
    workers = config["provider"]["worker_ips"]
    (nodes,) = config["available_node_types"].values()
    assert len(workers) == nodes["min_workers"] == nodes["max_workers"]


def test_its_commands_start_a_head_and_workers_that_find_it() -> None:
    config = documents(DEPLOY / "ray" / "cluster.yaml")[0]
    head = check_ray_start(config["head_start_ray_commands"][-1])
    worker = check_ray_start(config["worker_start_ray_commands"][-1])
    assert head["head"]
    assert worker["address"] == f"$RAY_HEAD_IP:{head['port']}"
    # The launcher's own ways of passing variables would show them in `ps`.
    everything = str(config)
    assert "TOKEN=" not in everything
    assert "PASSWORD=" not in everything


def test_its_containers_end_killed_engines_and_have_no_rights_to_spare() -> None:
    docker = documents(DEPLOY / "ray" / "cluster.yaml")[0]["docker"]
    options = docker["run_options"]
    assert f"--env={GROUP_CLEANUP}=1" in options
    assert {"--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(options)
    assert not [option for option in options if "privileged" in option.replace("no-new-privileges", "")]
    assert "--gpus=all" in docker["worker_run_options"]
    assert any(option.endswith(":/home/mergeboard") for option in options)
