"""The embedded kitchen as an environment of LeRobot. Importing it registers `--env.type=svms_kitchen`."""

from lerobot_env_svms_kitchen.configuration import SvmsKitchenEnv

__all__ = ["SvmsKitchenEnv"]
