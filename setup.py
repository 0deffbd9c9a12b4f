"""What setup.cfg cannot say: the folder configs/ is installed as samseg/configs."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["samseg", "samseg.*"]), "samseg.configs"],
    package_dir={"samseg.configs": "configs"},
)
