"""The files of the image: put in, taken out. Nothing outside its root filesystem is ever touched."""
