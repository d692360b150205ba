"""
Run a script and kill it, as with kill -9, just before its N-th durable write.

    python tests/support/killed.py N SCRIPT ARGUMENTS…

Durable writes are renames and flushes to the disk. No `finally` block runs and no buffer is written.
"""

import os
import runpy
import sys

number = int(sys.argv[1])
sys.argv = sys.argv[2:]
sys.path[0] = os.path.dirname(sys.argv[0])
count = 0


def deadly(write):
    def wrapper(*arguments, **options):
        global count
        count += 1
        if count == number:
            os._exit(137)
        return write(*arguments, **options)

    return wrapper


os.replace, os.fsync = deadly(os.replace), deadly(os.fsync)
runpy.run_path(sys.argv[0], run_name="__main__")
