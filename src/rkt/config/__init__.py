"""What the administrator configured: files of several kinds under the configuration directories.

`files` reads a directory of them, `auth` and `kinds` know what each kind holds, `merged` lays the directories
over each other. Each kind has its own directory: `auth.d`, `paths.d`, `stage1.d`, `pods.d`, `images.d`.
"""
