"""`python -m svms_gr00t`, which launchers such as accelerate and torchrun can start in several processes."""

from svms_gr00t.cli.main import main

main()
