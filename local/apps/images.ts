// Which sample program plays an image: our own names, and the stock sample images of Istio, whose YAML then
// runs unchanged. Looked up by the last part of the image's name, so that any registry and folder will do.

export interface AppImage {
  /** The script, relative to the repository. */
  readonly script: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const app = (name: string, env: Readonly<Record<string, string>> = {}): AppImage => ({
  script: `local/apps/${name}.ts`,
  env,
});

const reviews = (version: string, color?: string): AppImage =>
  app('reviews', {
    SERVICE_VERSION: version,
    ...(color === undefined ? {} : { ENABLE_RATINGS: 'true', STAR_COLOR: color }),
  });

const IMAGES: Readonly<Record<string, AppImage>> = {
  productpage: app('productpage'),
  details: app('details'),
  'reviews-v1': reviews('v1'),
  'reviews-v2': reviews('v2', 'black'),
  'reviews-v3': reviews('v3', 'red'),
  ratings: app('ratings'),
  load: app('load'),
  httpbin: app('httpbin'),
  'tcp-echo': app('tcp-echo'),
  helloworld: app('helloworld'),
  websockets: app('websockets'),
  'examples-bookinfo-productpage-v1': app('productpage'),
  'examples-bookinfo-details-v1': app('details'),
  'examples-bookinfo-details-v2': app('details'),
  'examples-bookinfo-reviews-v1': reviews('v1'),
  'examples-bookinfo-reviews-v2': reviews('v2', 'black'),
  'examples-bookinfo-reviews-v3': reviews('v3', 'red'),
  'examples-bookinfo-ratings-v1': app('ratings'),
  'examples-bookinfo-ratings-v2': app('ratings'),
  'go-httpbin': app('httpbin'),
  'tcp-echo-server': app('tcp-echo'),
  'examples-helloworld-v1': app('helloworld', { SERVICE_VERSION: 'v1' }),
  'examples-helloworld-v2': app('helloworld', { SERVICE_VERSION: 'v2' }),
  'tornado-websocket-example': app('websockets'),
  app: app('echo'),
};

/** The sample program of an image name without tag and digest, if there is one. */
export function appOfImage(name: string): AppImage | undefined {
  return IMAGES[name.slice(name.lastIndexOf('/') + 1)];
}
