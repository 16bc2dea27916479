"""`python -m ray_cxr`, which a debugger can start: `python -m pdb -m ray_cxr train JOB train.workers=0`."""

from ray_cxr.cli.main import main

if __name__ == "__main__":
    main()
